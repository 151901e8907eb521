# Completion of ciso-ops for fish. To load it:
#   ciso-ops --print-completion-script fish > ~/.config/fish/completions/ciso-ops.fish

function __ciso_ops_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
    set -l lines ($program --complete -- $words "$current" 2>/dev/null)
    set -l prefix (string match -r -- '^--[^=]+=' "$current")
    for line in $lines[2..-1]
        echo -- "$prefix$line"
    end
    # What fits for a command that nothing is known of: paths, whatever is quoted or has a tilde.
    set -l value (string replace -r -- '^--[^=]+=' '' "$current")
    set -l paths (complete -C "'' $value" | string replace -r '\t.*' '')
    switch "$lines[1]"
        case directories
            set paths (string match -- '*/' $paths)
        case words
            set paths
    end
    for path in $paths
        echo -- "$prefix$path"
    end
end

complete --command ciso-ops --no-files --keep-order --arguments '(__ciso_ops_complete)'
