# bash completion for pytrace-bpf                                          -*- shell-script -*-
# SPDX-License-Identifier: LGPL-2.1 OR BSD-2-Clause
# The options come from the program's own --help, so this file has nothing to keep up with.

_pytrace_bpf_pids() {
    local pid
    for pid in /proc/[1-9]*; do
        [[ $(readlink "$pid/exe" 2>/dev/null) == *python* ]] && echo "${pid#/proc/}"
    done
}

_pytrace_bpf() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb="" i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == -- ]]; then
            # the command that is run completes as if it stood alone
            if declare -F _command_offset >/dev/null; then
                _command_offset $((i + 1))
            else
                mapfile -t COMPREPLY < <(compgen -c -- "$cur")
            fi
            return
        fi
    done
    case ${COMP_WORDS[1]} in
    check | list | replay | report | kernels | merge | agent | ctl | capture) [ "$COMP_CWORD" -gt 1 ] && verb=${COMP_WORDS[1]} ;;
    esac
    case $prev in
    -p | --pid)
        mapfile -t COMPREPLY < <(compgen -W "$(_pytrace_bpf_pids)" -- "$cur")
        return
        ;;
    --engine)
        mapfile -t COMPREPLY < <(compgen -W "auto usdt frame sample hybrid" -- "$cur")
        return
        ;;
    --dialect)
        mapfile -t COMPREPLY < <(compgen -W "pytorch viztracer" -- "$cur")
        return
        ;;
    --c-functions)
        mapfile -t COMPREPLY < <(compgen -W "none all waiting blocking" -- "$cur")
        return
        ;;
    --cuda)
        mapfile -t COMPREPLY < <(compgen -W "auto runtime driver all none" -- "$cur")
        return
        ;;
    --cuda-libs)
        mapfile -t COMPREPLY < <(compgen -W "cublas cudnn" -- "$cur")
        return
        ;;
    --stacks)
        mapfile -t COMPREPLY < <(compgen -W "cuda launch malloc memcpy sync mark" -- "$cur")
        return
        ;;
    --on)
        mapfile -t COMPREPLY < <(compgen -W "slow: exception: gc: gil: cuda: cuda-error crash exit
            hang: request: memory:host: memory:device: signal:USR1 signal:USR2 file: at:" -- "$cur")
        return
        ;;
    --format)
        mapfile -t COMPREPLY < <(compgen -W "folder tar.gz" -- "$cur")
        return
        ;;
    --follow)
        mapfile -t COMPREPLY < <(compgen -W "auto exact late no" -- "$cur")
        return
        ;;
    -o | --output | --memory-history | --config | --control | --socket | --token-file)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --cache-dir)
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
        return
        ;;
    -d | --duration | -F | --frequency | --min-duration | --max-stack-depth | --include-file | --exclude-file | \
        --start-on | --stop-on | --count | --buffer | --max-events | --max-file-size | \
        --max-overhead | --max-cpu | --max-memory | \
        --gzip-level | --top | --process-name | --args | --retval | --local | --last | --after | --cool-down | \
        --window-memory | --max-captures | --max-disk)
        return
        ;;
    esac
    if [[ $cur == -* ]]; then
        # shellcheck disable=SC2086 # no verb is no word
        mapfile -t COMPREPLY < <(compgen -W \
            "$("${COMP_WORDS[0]}" $verb --help 2>/dev/null | grep -oE '^ +(-[a-zA-Z], )?--[a-z-]+' |
                grep -oE -- '-{1,2}[a-zA-Z-]+')" -- "$cur")
    elif [ "$verb" = ctl ] && [[ $prev != save ]]; then
        mapfile -t COMPREPLY < <(compgen -W "status pause resume clear save stop" -- "$cur")
    elif [ -n "$verb" ]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    elif [ "$COMP_CWORD" = 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "check list replay report kernels merge agent ctl capture" -- "$cur")
    fi
}
complete -o filenames -F _pytrace_bpf pytrace-bpf
