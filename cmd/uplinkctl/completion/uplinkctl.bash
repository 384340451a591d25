# bash completion for uplinkctl(8)
# Made from the commands' flags by: go test ./cmd/uplinkctl -run TestCompletion -update

_uplinkctl()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]-} root='' i
	COMPREPLY=()
	# "=" is a word of its own: --root=DIR.
	if [[ $cur == = ]]; then
		cur=''
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD-2]}
	fi
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W 'status check render reload try apply watch diff down verify explain export import graph names schema help --help --version' -- "$cur")
		return
	fi
	for ((i = 2; i < COMP_CWORD; i++)); do
		if [[ ${COMP_WORDS[i]} == --root ]]; then
			root=${COMP_WORDS[i+1]}
			[[ $root == = ]] && root=${COMP_WORDS[i+2]-}
		fi
	done
	case $command$prev in
	status--root) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	check--format) mapfile -t COMPREPLY < <(compgen -W 'text json sarif' -- "$cur") ;;
	check--root) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	render--output) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	render--root) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	render--systemd-version) ;;
	reload--root) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	reload--wait) ;;
	try--root) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	try--timeout) ;;
	try--wait) ;;
	apply--link) mapfile -t COMPREPLY < <(cd /sys/class/net 2>/dev/null && compgen -f -- "$cur") ;;
	apply--root) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	apply--wait) ;;
	watch--root) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	diff--root) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	down--root) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	verify--root) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	explain--dport) ;;
	explain--iif) mapfile -t COMPREPLY < <(cd /sys/class/net 2>/dev/null && compgen -f -- "$cur") ;;
	explain--mark) ;;
	explain--oif) mapfile -t COMPREPLY < <(cd /sys/class/net 2>/dev/null && compgen -f -- "$cur") ;;
	explain--proto) ;;
	explain--root) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	explain--sport) ;;
	explain--uid) ;;
	export--format) mapfile -t COMPREPLY < <(compgen -W 'iproute2 json' -- "$cur") ;;
	export--root) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	import--from) mapfile -t COMPREPLY < <(compgen -W 'kernel interfaces netplan networkd networkmanager ifcfg script' -- "$cur") ;;
	import--manage) mapfile -t COMPREPLY < <(compgen -W 'link policy' -- "$cur") ;;
	import--output) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
	import--root) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	graph--root) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	names--root) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	*)
		case $command in
		status)
			[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '--all --json --root --help' -- "$cur")
			;;
		check)
			[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '--format --root --state --strict --help' -- "$cur")
			if [[ $cur != -* ]]; then
				compopt -o filenames 2>/dev/null
				mapfile -t COMPREPLY < <(compgen -f -X '!*.toml' -- "$cur"; compgen -d -- "$cur")
			fi
			;;
		render)
			[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '--output --root --systemd-version --help' -- "$cur")
			;;
		reload)
			[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '--if-changed --root --wait --help' -- "$cur")
			;;
		try)
			[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '--cancel --confirm --go-back --root --timeout --wait --help' -- "$cur")
			;;
		apply)
			[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '--dry-run --force --if-needed --link --root --wait --help' -- "$cur")
			;;
		watch)
			[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '--root --help' -- "$cur")
			;;
		diff)
			[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '--root --help' -- "$cur")
			;;
		down)
			[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '--dry-run --if-needed --root --help' -- "$cur")
			;;
		verify)
			[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '--json --root --help' -- "$cur")
			;;
		explain)
			[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '--all --dport --iif --json --mark --offline --oif --proto --root --sport --uid --help' -- "$cur")
			[[ $cur != -* ]] && mapfile -t COMPREPLY < <(compgen -W "$(uplinkctl names ${root:+--root "$root"} 2>/dev/null)" -- "$cur")
			;;
		export)
			[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '--format --root --help' -- "$cur")
			if [[ $cur != -* ]]; then
				compopt -o filenames 2>/dev/null
				mapfile -t COMPREPLY < <(compgen -f -X '!*.toml' -- "$cur"; compgen -d -- "$cur")
			fi
			;;
		import)
			[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '--force --from --manage --output --root --help' -- "$cur")
			if [[ $cur != -* ]]; then
				compopt -o filenames 2>/dev/null
				mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			fi
			;;
		graph)
			[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '--root --help' -- "$cur")
			if [[ $cur != -* ]]; then
				compopt -o filenames 2>/dev/null
				mapfile -t COMPREPLY < <(compgen -f -X '!*.toml' -- "$cur"; compgen -d -- "$cur")
			fi
			;;
		names)
			[[ $cur == -* ]] && mapfile -t COMPREPLY < <(compgen -W '--root --help' -- "$cur")
			if [[ $cur != -* ]]; then
				compopt -o filenames 2>/dev/null
				mapfile -t COMPREPLY < <(compgen -f -X '!*.toml' -- "$cur"; compgen -d -- "$cur")
			fi
			;;
		schema)
			;;
		help)
			mapfile -t COMPREPLY < <(compgen -W 'status check render reload try apply watch diff down verify explain export import graph names schema help' -- "$cur")
			;;
		esac
		;;
	esac
}
complete -F _uplinkctl uplinkctl
