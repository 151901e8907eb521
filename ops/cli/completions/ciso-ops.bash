# Completion of ciso-ops for bash. To load it, put this line into ~/.bashrc:
#   eval "$(ciso-ops --print-completion-script bash)"

_ciso_ops() {
    local program=${1/#\~\//$HOME/} current=$2 kind="" line word
    [[ $current == "=" ]] && current=""
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ -z $kind ]]; then
            kind=$line
            continue
        fi
        word=${line%%$'\t'*}
        [[ $word == "$current"* ]] && COMPREPLY+=("$word")
    done < <("$program" --complete -- "${COMP_WORDS[@]:0:COMP_CWORD+1}" 2>/dev/null)
    # Paths are left to readline, which knows of quotes and tildes. Bash 3 cannot be told that
    # there are none: it then offers paths where nothing else fits.
    type compopt >/dev/null 2>&1 || return 0
    case $kind in
        files) ;;
        directories) compopt +o default -o dirnames ;;
        *) compopt +o default ;;
    esac
}

complete -o default -F _ciso_ops ciso-ops
