# README.md as it is in packages: links lead to what is installed beside it; of a link to
# something that is not installed only the words stay. TestTheLinksOfTheInstalledReadmeLead
# checks that.
s,\]\(cmd/uplinkctl/doc/,](,g
s,\[`integration/examples`\]\(integration/examples\),[`examples`](examples),g
s,\]\(integration/examples/([^/)]*)/root/etc/uplink/uplink\.toml\),](examples/\1.toml),g
# Drop a picture, with the empty line after it.
/^!\[.*\]\([^)]*\)$/{
N
d
}
s,\[([^]]*)\]\((CONTRIBUTING\.md|Makefile|units|integration)[^)]*\),\1,g
