#compdef ciso-ops
# Completion of ciso-ops for zsh. To load it, put this line into ~/.zshrc, after compinit:
#   eval "$(ciso-ops --print-completion-script zsh)"

_ciso_ops() {
    local program=${words[1]/#\~\//$HOME/} kind line word
    local -a lines described
    lines=("${(@f)$("$program" --complete -- "${(@)words[1,CURRENT]}" 2>/dev/null)}")
    kind=$lines[1]
    for line in "${(@)lines[2,-1]}"; do
        word=${line%%$'\t'*}
        described+=("${word//:/\\:}:${line#*$'\t'}")
    done
    [[ $words[CURRENT] == --*=* ]] && compset -P '*='
    (( $#described )) && _describe -V 'ciso-ops' described
    case $kind in
        files) _files ;;
        directories) _files -/ ;;
    esac
}

if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
    _ciso_ops "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
    compdef _ciso_ops ciso-ops
fi
