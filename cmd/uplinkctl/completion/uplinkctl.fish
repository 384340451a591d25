# fish completion for uplinkctl(8)
# Made from the commands' flags by: go test ./cmd/uplinkctl -run TestCompletion -update

function __uplinkctl_command -d 'whether the command is one of these, none without any'
    set -l words (commandline -opc)
    if test (count $argv) -eq 0
        test (count $words) -eq 1
    else
        test (count $words) -gt 1; and contains -- $words[2] $argv
    end
end

function __uplinkctl_uplinks
    set -l words (commandline -opc)
    set -l root
    for i in (seq (count $words))
        switch $words[$i]
            case --root
                set -q words[(math $i + 1)]; and set root --root $words[(math $i + 1)]
            case '--root=*'
                set root $words[$i]
        end
    end
    uplinkctl names $root 2>/dev/null
end

complete -c uplinkctl -f
complete -c uplinkctl -n __uplinkctl_command -l help -d 'print the commands'
complete -c uplinkctl -n __uplinkctl_command -l version -d 'print the version'
complete -c uplinkctl -n __uplinkctl_command -a status -d 'show the uplinks and the host\'s rules'
complete -c uplinkctl -n __uplinkctl_command -a check -d 'report every error in the spec, and what is hardly meant'
complete -c uplinkctl -n __uplinkctl_command -a render -d 'show or write the files for systemd-networkd'
complete -c uplinkctl -n __uplinkctl_command -a reload -d 'bring a changed spec into effect, with either back end'
complete -c uplinkctl -n __uplinkctl_command -a try -d 'the same for a time: it goes back unless you keep it'
complete -c uplinkctl -n __uplinkctl_command -a apply -d 'apply the spec through netlink'
complete -c uplinkctl -n __uplinkctl_command -a watch -d 'keep routes and rules right as links and addresses change'
complete -c uplinkctl -n __uplinkctl_command -a diff -d 'show what differs between the spec and the kernel'
complete -c uplinkctl -n __uplinkctl_command -a down -d 'remove what apply added'
complete -c uplinkctl -n __uplinkctl_command -a verify -d 'ask the kernel which way packets would leave'
complete -c uplinkctl -n __uplinkctl_command -a explain -d 'show the way of one packet, rule by rule'
complete -c uplinkctl -n __uplinkctl_command -a export -d 'print the state for other tools: ip(8), or JSON'
complete -c uplinkctl -n __uplinkctl_command -a import -d 'write a spec from the kernel, ifupdown, netplan, …'
complete -c uplinkctl -n __uplinkctl_command -a graph -d 'draw the state, for Graphviz'
complete -c uplinkctl -n __uplinkctl_command -a names -d 'print the names of the uplinks'
complete -c uplinkctl -n __uplinkctl_command -a schema -d 'print a JSON Schema of the spec, for editors'
complete -c uplinkctl -n __uplinkctl_command -a help -d 'the options of a command, with examples'

complete -c uplinkctl -n '__uplinkctl_command status' -l all -d 'show every uplink and every rule, however many there are'
complete -c uplinkctl -n '__uplinkctl_command status' -l json -d 'print one JSON object'
complete -c uplinkctl -n '__uplinkctl_command status' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'

complete -c uplinkctl -n '__uplinkctl_command check' -l format -x -a 'text json sarif' -d 'text, json, sarif'
complete -c uplinkctl -n '__uplinkctl_command check' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'
complete -c uplinkctl -n '__uplinkctl_command check' -l state -d 'print the state that the kernel would hold, as lines of ip(8)'
complete -c uplinkctl -n '__uplinkctl_command check' -l strict -d 'count warnings as errors'
complete -c uplinkctl -n '__uplinkctl_command check' -k -a '(__fish_complete_suffix .toml)'

complete -c uplinkctl -n '__uplinkctl_command render' -l output -x -a '(__fish_complete_directories)' -d 'write the files below DIR, as DIR/run/systemd/network/…, and remove those of an earlier run that the spec no longer gives'
complete -c uplinkctl -n '__uplinkctl_command render' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory: where the spec is, and the .network files of others (default /)'
complete -c uplinkctl -n '__uplinkctl_command render' -l systemd-version -x -d 'the version of the host\'s systemd, like 257 or 257.13 (default: the one installed below --root)'

complete -c uplinkctl -n '__uplinkctl_command reload' -l if-changed -d 'do nothing if this spec is in effect since the boot'
complete -c uplinkctl -n '__uplinkctl_command reload' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory: where the spec and /run are (default /)'
complete -c uplinkctl -n '__uplinkctl_command reload' -l wait -x -d 'how long it may take until all is in effect (default 15)'

complete -c uplinkctl -n '__uplinkctl_command try' -l cancel -d 'go back now, or once more if going back has failed'
complete -c uplinkctl -n '__uplinkctl_command try' -l confirm -d 'keep what is tried'
complete -c uplinkctl -n '__uplinkctl_command try' -l go-back -d 'wait until the time is over and go back'
complete -c uplinkctl -n '__uplinkctl_command try' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory: where the spec and /run are (default /)'
complete -c uplinkctl -n '__uplinkctl_command try' -l timeout -x -d 'how long you have to keep it once it is in effect (default 120)'
complete -c uplinkctl -n '__uplinkctl_command try' -l wait -x -d 'how long it may take until all is in effect (default 15)'

complete -c uplinkctl -n '__uplinkctl_command apply' -l dry-run -d 'print what it would do, in the syntax of ip(8), and change nothing'
complete -c uplinkctl -n '__uplinkctl_command apply' -l force -d 'apply even links that systemd-networkd manages'
complete -c uplinkctl -n '__uplinkctl_command apply' -l if-needed -d 'leave out the links that systemd-networkd manages, unless the spec says backend = "netlink"'
complete -c uplinkctl -n '__uplinkctl_command apply' -l link -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'wait only for this link, given by name or path in /sys'
complete -c uplinkctl -n '__uplinkctl_command apply' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory: where the spec and /run are (default /)'
complete -c uplinkctl -n '__uplinkctl_command apply' -l wait -x -d 'how long to wait for links that are absent or have no carrier (default 0)'

complete -c uplinkctl -n '__uplinkctl_command watch' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory: where /run is (default /)'

complete -c uplinkctl -n '__uplinkctl_command diff' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'

complete -c uplinkctl -n '__uplinkctl_command down' -l dry-run -d 'print what it would do, and change nothing'
complete -c uplinkctl -n '__uplinkctl_command down' -l if-needed -d 'do nothing if systemd-networkd alone has what is in effect'
complete -c uplinkctl -n '__uplinkctl_command down' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory: where /run is (default /)'

complete -c uplinkctl -n '__uplinkctl_command verify' -l json -d 'print one JSON object'
complete -c uplinkctl -n '__uplinkctl_command verify' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'

complete -c uplinkctl -n '__uplinkctl_command explain' -l all -d 'also show the rules that do not select it'
complete -c uplinkctl -n '__uplinkctl_command explain' -l dport -x -d 'its destination port, with --proto'
complete -c uplinkctl -n '__uplinkctl_command explain' -l iif -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'the link it comes in by (default: the host itself sends it)'
complete -c uplinkctl -n '__uplinkctl_command explain' -l json -d 'print one JSON object'
complete -c uplinkctl -n '__uplinkctl_command explain' -l mark -x -d 'the packet\'s firewall mark, like 0x10'
complete -c uplinkctl -n '__uplinkctl_command explain' -l offline -d 'use the spec alone: what a kernel would do with it in effect'
complete -c uplinkctl -n '__uplinkctl_command explain' -l oif -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'the link that its socket is bound to'
complete -c uplinkctl -n '__uplinkctl_command explain' -l proto -x -d 'tcp, udp, icmp or icmpv6'
complete -c uplinkctl -n '__uplinkctl_command explain' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'
complete -c uplinkctl -n '__uplinkctl_command explain' -l sport -x -d 'its source port, with --proto'
complete -c uplinkctl -n '__uplinkctl_command explain' -l uid -x -d 'the user who sends it (default: root)'
complete -c uplinkctl -n '__uplinkctl_command explain' -a '(__uplinkctl_uplinks)' -d uplink

complete -c uplinkctl -n '__uplinkctl_command export' -l format -x -a 'iproute2 json' -d 'iproute2, json'
complete -c uplinkctl -n '__uplinkctl_command export' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'
complete -c uplinkctl -n '__uplinkctl_command export' -k -a '(__fish_complete_suffix .toml)'

complete -c uplinkctl -n '__uplinkctl_command import' -l force -d 'replace FILE if it exists'
complete -c uplinkctl -n '__uplinkctl_command import' -l from -x -a 'kernel interfaces netplan networkd networkmanager ifcfg script' -d 'kernel, interfaces, netplan, networkd, networkmanager, ifcfg, script'
complete -c uplinkctl -n '__uplinkctl_command import' -l manage -x -a 'link policy' -d 'link, policy'
complete -c uplinkctl -n '__uplinkctl_command import' -l output -r -F -d 'write to FILE instead of standard output'
complete -c uplinkctl -n '__uplinkctl_command import' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'
complete -c uplinkctl -n '__uplinkctl_command import' -F

complete -c uplinkctl -n '__uplinkctl_command graph' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'
complete -c uplinkctl -n '__uplinkctl_command graph' -k -a '(__fish_complete_suffix .toml)'

complete -c uplinkctl -n '__uplinkctl_command names' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'
complete -c uplinkctl -n '__uplinkctl_command names' -k -a '(__fish_complete_suffix .toml)'


complete -c uplinkctl -n '__uplinkctl_command help' -a 'status check render reload try apply watch diff down verify explain export import graph names schema help'
