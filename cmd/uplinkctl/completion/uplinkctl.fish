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
complete -c uplinkctl -n __uplinkctl_command -a check -d 'read the spec and report everything that is wrong with it'
complete -c uplinkctl -n __uplinkctl_command -a render -d 'show or write the files for systemd-networkd'
complete -c uplinkctl -n __uplinkctl_command -a reload -d 'bring a changed spec into effect, whoever has the links'
complete -c uplinkctl -n __uplinkctl_command -a try -d 'the same for a time: it goes back unless you keep it'
complete -c uplinkctl -n __uplinkctl_command -a apply -d 'bring the state about through netlink'
complete -c uplinkctl -n __uplinkctl_command -a watch -d 'keep in effect what is, as links and addresses come and go'
complete -c uplinkctl -n __uplinkctl_command -a diff -d 'show what differs between the spec and the kernel'
complete -c uplinkctl -n __uplinkctl_command -a down -d 'take away what apply brought about'
complete -c uplinkctl -n __uplinkctl_command -a verify -d 'ask the kernel which way packets would leave'
complete -c uplinkctl -n __uplinkctl_command -a explain -d 'show the way of one packet, rule by rule'
complete -c uplinkctl -n __uplinkctl_command -a export -d 'print the state for other tools: ip(8), or JSON'
complete -c uplinkctl -n __uplinkctl_command -a import -d 'write a spec from what is there: kernel, ifupdown, netplan, …'
complete -c uplinkctl -n __uplinkctl_command -a graph -d 'draw the state, for Graphviz'
complete -c uplinkctl -n __uplinkctl_command -a names -d 'print the names of the uplinks'
complete -c uplinkctl -n __uplinkctl_command -a schema -d 'print a JSON Schema of the spec, for editors'
complete -c uplinkctl -n __uplinkctl_command -a help -d 'the options of a command, with examples'

complete -c uplinkctl -n '__uplinkctl_command status' -l all -d 'show each of more than 16 uplinks, and all rules'
complete -c uplinkctl -n '__uplinkctl_command status' -l json -d 'print one JSON object'
complete -c uplinkctl -n '__uplinkctl_command status' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'

complete -c uplinkctl -n '__uplinkctl_command check' -l format -x -a 'text json sarif' -d 'text, json, sarif'
complete -c uplinkctl -n '__uplinkctl_command check' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'
complete -c uplinkctl -n '__uplinkctl_command check' -l state -d 'print the state that the kernel would hold, as lines of ip(8)'
complete -c uplinkctl -n '__uplinkctl_command check' -l strict -d 'count warnings as errors'
complete -c uplinkctl -n '__uplinkctl_command check' -k -a '(__fish_complete_suffix .toml)'

complete -c uplinkctl -n '__uplinkctl_command render' -l output -x -a '(__fish_complete_directories)' -d 'write the files below DIR, as DIR/run/systemd/network/…'
complete -c uplinkctl -n '__uplinkctl_command render' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory: where the spec is, and the .network files of others (default /)'
complete -c uplinkctl -n '__uplinkctl_command render' -l systemd-version -x -d 'the version of the host\'s systemd, like 257 or 257.13 (default: the one that is installed below --root)'

complete -c uplinkctl -n '__uplinkctl_command reload' -l if-changed -d 'do nothing where the boot has brought about this very spec'
complete -c uplinkctl -n '__uplinkctl_command reload' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory: where the spec and /run are (default /)'
complete -c uplinkctl -n '__uplinkctl_command reload' -l wait -x -d 'how long it may take until all is in effect (default 15)'

complete -c uplinkctl -n '__uplinkctl_command try' -l cancel -d 'go back now, or try again to where that has failed'
complete -c uplinkctl -n '__uplinkctl_command try' -l confirm -d 'keep what is tried'
complete -c uplinkctl -n '__uplinkctl_command try' -l go-back -d 'wait until the time is over and go back'
complete -c uplinkctl -n '__uplinkctl_command try' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory: where the spec and /run are (default /)'
complete -c uplinkctl -n '__uplinkctl_command try' -l timeout -x -d 'how long there is to keep it, from when it is in effect (default 120)'
complete -c uplinkctl -n '__uplinkctl_command try' -l wait -x -d 'how long it may take until all is in effect (default 15)'

complete -c uplinkctl -n '__uplinkctl_command apply' -l dry-run -d 'print what would be done, in the words of ip(8), and do nothing'
complete -c uplinkctl -n '__uplinkctl_command apply' -l force -d 'even where systemd-networkd manages the links'
complete -c uplinkctl -n '__uplinkctl_command apply' -l if-needed -d 'leave out the links that systemd-networkd manages, unless the spec says backend = "netlink"'
complete -c uplinkctl -n '__uplinkctl_command apply' -l link -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'wait for this link alone, by its name or its path in /sys'
complete -c uplinkctl -n '__uplinkctl_command apply' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory: where the spec and /run are (default /)'
complete -c uplinkctl -n '__uplinkctl_command apply' -l wait -x -d 'how long to wait for links without carrier, or that are not there yet (default 0)'

complete -c uplinkctl -n '__uplinkctl_command watch' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory: where /run is (default /)'

complete -c uplinkctl -n '__uplinkctl_command diff' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'

complete -c uplinkctl -n '__uplinkctl_command down' -l dry-run -d 'print what would be done, and do nothing'
complete -c uplinkctl -n '__uplinkctl_command down' -l if-needed -d 'do nothing where what is in effect is systemd-networkd\'s alone'
complete -c uplinkctl -n '__uplinkctl_command down' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory: where /run is (default /)'

complete -c uplinkctl -n '__uplinkctl_command verify' -l json -d 'print one JSON object'
complete -c uplinkctl -n '__uplinkctl_command verify' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'

complete -c uplinkctl -n '__uplinkctl_command explain' -l all -d 'show the rules that do not select it as well'
complete -c uplinkctl -n '__uplinkctl_command explain' -l dport -x -d 'its destination port, with --proto'
complete -c uplinkctl -n '__uplinkctl_command explain' -l iif -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'it comes in by this link'
complete -c uplinkctl -n '__uplinkctl_command explain' -l json -d 'print one JSON object'
complete -c uplinkctl -n '__uplinkctl_command explain' -l mark -x -d 'the packet\'s firewall mark, like 0x10'
complete -c uplinkctl -n '__uplinkctl_command explain' -l offline -d 'ask no kernel: what it would do once the spec is in effect'
complete -c uplinkctl -n '__uplinkctl_command explain' -l oif -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'its socket is bound to this link'
complete -c uplinkctl -n '__uplinkctl_command explain' -l proto -x -d 'tcp, udp, icmp or icmpv6'
complete -c uplinkctl -n '__uplinkctl_command explain' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'
complete -c uplinkctl -n '__uplinkctl_command explain' -l sport -x -d 'its source port, with --proto'
complete -c uplinkctl -n '__uplinkctl_command explain' -l uid -x -d 'its user (default: root)'
complete -c uplinkctl -n '__uplinkctl_command explain' -a '(__uplinkctl_uplinks)' -d uplink

complete -c uplinkctl -n '__uplinkctl_command export' -l format -x -a 'iproute2 json' -d 'iproute2, json'
complete -c uplinkctl -n '__uplinkctl_command export' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'
complete -c uplinkctl -n '__uplinkctl_command export' -k -a '(__fish_complete_suffix .toml)'

complete -c uplinkctl -n '__uplinkctl_command import' -l force -d 'replace FILE if it is there'
complete -c uplinkctl -n '__uplinkctl_command import' -l from -x -a 'kernel interfaces netplan networkd networkmanager ifcfg script' -d 'kernel, interfaces, netplan, networkd, networkmanager, ifcfg, script'
complete -c uplinkctl -n '__uplinkctl_command import' -l manage -x -a 'link policy' -d 'link, policy'
complete -c uplinkctl -n '__uplinkctl_command import' -l output -r -F -d 'write to FILE and not to standard output'
complete -c uplinkctl -n '__uplinkctl_command import' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'
complete -c uplinkctl -n '__uplinkctl_command import' -F

complete -c uplinkctl -n '__uplinkctl_command graph' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'
complete -c uplinkctl -n '__uplinkctl_command graph' -k -a '(__fish_complete_suffix .toml)'

complete -c uplinkctl -n '__uplinkctl_command names' -l root -x -a '(__fish_complete_directories)' -d 'the host\'s root directory (default /)'
complete -c uplinkctl -n '__uplinkctl_command names' -k -a '(__fish_complete_suffix .toml)'


complete -c uplinkctl -n '__uplinkctl_command help' -a 'status check render reload try apply watch diff down verify explain export import graph names schema help'
