# README.md as it is in packages: links lead to what is installed beside it, and where that
# is nothing the words stay. TestTheLinksOfTheInstalledReadmeLead holds it.
s,\]\(cmd/uplinkctl/doc/,](,g
s,\[`integration/examples`\]\(integration/examples\),[`examples`](examples),g
s,\]\(integration/examples/([^/)]*)/root/etc/uplink/uplink\.toml\),](examples/\1.toml),g
# A picture, with the empty line behind it.
/^!\[.*\]\([^)]*\)$/{
N
d
}
s,\[([^]]*)\]\((CONTRIBUTING\.md|Makefile|units|integration)[^)]*\),\1,g
