# make demo, make test: see README.md. make install is for packagers.

PREFIX     ?= /usr
BINDIR     ?= $(PREFIX)/bin
MANDIR     ?= $(PREFIX)/share/man
DOCDIR     ?= $(PREFIX)/share/doc/uplink-generator
EXAMPLEDIR ?= $(DOCDIR)/examples
LICENSEDIR ?= $(PREFIX)/share/licenses/uplink-generator
SYSCONFDIR ?= /etc

DATADIR           ?= $(PREFIX)/share
BASHCOMPLETIONDIR ?= $(DATADIR)/bash-completion/completions
ZSHCOMPLETIONDIR  ?= $(DATADIR)/zsh/site-functions
FISHCOMPLETIONDIR ?= $(DATADIR)/fish/vendor_completions.d
SCHEMADIR         ?= $(DATADIR)/uplink-generator

# systemd's .pc file says where its directories are; the defaults are those of most
# distributions.
systemd_dir   = $(or $(shell pkg-config --variable=$(1) $(or $(3),systemd) 2>/dev/null),$(2))
UNITDIR      ?= $(call systemd_dir,systemdsystemunitdir,/usr/lib/systemd/system)
GENERATORDIR ?= $(call systemd_dir,systemdsystemgeneratordir,/usr/lib/systemd/system-generators)
UDEVRULESDIR ?= $(call systemd_dir,udevdir,/usr/lib/udev,udev)/rules.d

# Where programs are built, and installed from.
OUT ?= bin

GO      ?= go
VERSION ?= $(shell git describe --tags --always --abbrev=12 --dirty 2>/dev/null || echo devel)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
module   = github.com/uplink-generator/uplink-generator
ldflags  = -s -w -X $(module)/cmd/internal/run.version=$(VERSION) -X $(module)/cmd/internal/run.commit=$(COMMIT)
# The same bytes wherever it is built.
build    = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(ldflags)'

# Namespaces need root; sudo asks other users once.
sudo = $(shell [ "$$(id -u)" = 0 ] || echo sudo)

govulncheck   = golang.org/x/vuln/cmd/govulncheck@v1.9.0
golangci_lint = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: all build demo test unit integration boot fuzz bench bench-deps budget budget-update lint deps boot-deps install sysext uninstall clean
.PHONY: packages packages-lint packages-deps reproducible arches

all: build

build:
	$(build) -o $(OUT)/ ./cmd/...

# The main job on real input, in a throw-away network namespace.
demo: deps build
	$(build) -o bin/demo ./integration/demo
	$(sudo) bin/demo

# Everything that proves that it works.
test: deps unit integration boot

unit:
	$(GO) vet ./...
	$(GO) test -race ./gen/... ./units/... ./apply/... ./cmd/...

integration:
	$(GO) test -timeout 20m $(if $(sudo),-exec "$(sudo) -E env PATH=$$PATH") $$($(GO) list ./integration/... | grep -v /integration/boot)

# Real boots with each systemd. It first makes root file systems from the Debian mirror, and
# keeps them in the user's cache directory.
boot: deps boot-deps
	$(GO) test -timeout 80m $(if $(sudo),-exec "$(sudo) -E env PATH=$$PATH") ./integration/boot/...

# Each fuzz target for a while: make fuzz FUZZTIME=10m
# Before Go 1.27 a target whose time is over is sometimes reported as failed, with nothing but
# "context deadline exceeded" (golang/go#75804). A real failure has its input written.
FUZZTIME ?= 20s
fuzz:
	@set -e; log=$$(mktemp); trap 'rm -f "$$log"' EXIT; for pkg in $$($(GO) list ./...); do \
	  list=$$($(GO) test -list '^Fuzz' $$pkg); \
	  for f in $$(echo "$$list" | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg 2>&1 | tee "$$log"; \
	    if ! grep -q '^ok' "$$log" && { grep -q 'Failing input' "$$log" || ! grep -q '^    context deadline exceeded$$' "$$log"; }; then exit 1; fi; \
	  done; done

# Compares with the peers that are installed. BENCHFLAGS=-full adds what takes many minutes.
bench: deps bench-deps
	$(GO) build -o bin/bench ./integration/bench
	$(sudo) env "PATH=$$PATH" bin/bench -results integration/bench/results -cloud-init bin/cloud-init $(BENCHFLAGS)

# Peers: netplan does nothing by itself and is installed; cloud-init would act, so it is only
# unpacked.
bench-deps: needs = netplan.io $(addprefix python3-,yaml jinja2 configobj requests jsonschema oauthlib jsonpatch)
bench-deps:
	@command -v apt-get >/dev/null || exit 0; \
	missing=; for p in $(needs); do dpkg-query -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	[ -z "$$missing" ] || { $(sudo) apt-get -qq update; $(sudo) env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing; }; \
	[ -d bin/cloud-init ] || { mkdir -p bin/cloud-init.deb && (cd bin/cloud-init.deb && apt-get -qq download cloud-init) && dpkg -x bin/cloud-init.deb/*.deb bin/cloud-init; }

# Fails if a program is more than a tenth larger, or slower to start, than recorded.
budget:
	$(GO) run ./integration/bench -budget integration/bench/budget.json
budget-update:
	$(GO) run ./integration/bench -budget integration/bench/budget.json -update

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l -d .; exit 1; }
	$(GO) vet ./...
	$(GO) mod tidy -diff
	$(GO) mod verify
	$(GO) run $(golangci_lint) run ./...
	@out=$$($(GO) run $(govulncheck) ./... 2>&1); case $$?,$$out in \
	  0,*) echo "govulncheck: nothing is known" ;; \
	  *,*"fetching vulnerabilities"*) echo "NOT CHECKED: govulncheck cannot reach its data: $$(echo "$$out" | grep 'fetching vuln')" >&2 ;; \
	  *) echo "$$out"; exit 1 ;; \
	esac

# What the tests need and a Debian-like machine may lack, as PACKAGE:PROGRAM.
deps: needs = iproute2:ip systemd:networkctl util-linux:unshare procps:sysctl dbus-daemon:dbus-daemon man-db:man nftables:nft \
  isc-dhcp-client:dhclient dhcpcd-base:dhcpcd udhcpc:udhcpc $(daemons)
# Where systemd runs, these would start once installed, and NetworkManager would take over the
# machine's own network. Without them the tests that need them are skipped, and say so.
daemons = $(if $(wildcard /run/systemd/system),,isc-dhcp-server:dhcpd radvd:radvd network-manager:NetworkManager)
boot-deps: needs = mmdebstrap:mmdebstrap systemd-container:systemd-nspawn qemu-system-x86:qemu-system-x86_64 \
  squashfs-tools:mksquashfs busybox-static:busybox cpio:cpio
packages-deps: needs = squashfs-tools:mksquashfs binutils:ar lintian:lintian rpmlint:rpmlint rpm:rpm shellcheck:shellcheck qemu-user:qemu-s390x
deps boot-deps packages-deps:
	@missing=; \
	for p in $(needs); do \
	  command -v $${p#*:} >/dev/null || [ -x /usr/sbin/$${p#*:} ] || missing="$$missing $${p%%:*}"; \
	done; \
	[ -z "$$missing" ] || { echo "installing$$missing"; \
	  command -v apt-get >/dev/null || { echo "there is no apt-get here: install them by hand"; exit 1; }; \
	  $(sudo) apt-get -qq update && $(sudo) env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing; }

units = $(patsubst units/system/%.in,%,$(wildcard units/system/*.in))
pages = $(wildcard cmd/*/*.8 gen/spec/*.5)
docs  = $(wildcard cmd/uplinkctl/doc/*.md)

install: build
	install -D -m 0755 $(OUT)/uplinkctl $(DESTDIR)$(BINDIR)/uplinkctl
	install -D -m 0755 $(OUT)/uplink-generator $(DESTDIR)$(GENERATORDIR)/uplink-generator
	install -d $(DESTDIR)$(UNITDIR)
	for u in $(units); do \
	  sed -e 's|@bindir@|$(BINDIR)|g' -e 's|@generatordir@|$(GENERATORDIR)|g' units/system/$$u.in > $(DESTDIR)$(UNITDIR)/$$u && \
	  chmod 0644 $(DESTDIR)$(UNITDIR)/$$u || exit 1; \
	done
	install -d $(DESTDIR)$(UNITDIR)/multi-user.target.wants
	ln -sf ../uplink-reload.service $(DESTDIR)$(UNITDIR)/multi-user.target.wants/uplink-reload.service
	install -D -m 0644 units/udev/90-uplink.rules $(DESTDIR)$(UDEVRULESDIR)/90-uplink.rules
	install -D -m 0644 units/iproute2/rt_protos.conf $(DESTDIR)$(SYSCONFDIR)/iproute2/rt_protos.d/uplink.conf
	install -d $(DESTDIR)$(SYSCONFDIR)/iproute2/rt_tables.d $(DESTDIR)$(SYSCONFDIR)/uplink
	ln -sf /run/uplink/rt_tables.conf $(DESTDIR)$(SYSCONFDIR)/iproute2/rt_tables.d/uplink.conf
	install -D -m 0644 cmd/uplinkctl/completion/uplinkctl.bash $(DESTDIR)$(BASHCOMPLETIONDIR)/uplinkctl
	install -D -m 0644 cmd/uplinkctl/completion/_uplinkctl $(DESTDIR)$(ZSHCOMPLETIONDIR)/_uplinkctl
	install -D -m 0644 cmd/uplinkctl/completion/uplinkctl.fish $(DESTDIR)$(FISHCOMPLETIONDIR)/uplinkctl.fish
	install -D -m 0644 LICENSE $(DESTDIR)$(LICENSEDIR)/LICENSE
	install -D -m 0644 gen/spec/uplink.schema.json $(DESTDIR)$(SCHEMADIR)/uplink.schema.json
	for p in $(pages); do \
	  install -D -m 0644 $$p $(DESTDIR)$(MANDIR)/man$${p##*.}/$$(basename $$p) || exit 1; \
	done
	for d in $(docs); do install -D -m 0644 $$d $(DESTDIR)$(DOCDIR)/$$(basename $$d) || exit 1; done
	for e in integration/examples/*/; do \
	  install -D -m 0644 $$e/root/etc/uplink/uplink.toml $(DESTDIR)$(EXAMPLEDIR)/$$(basename $$e).toml || exit 1; \
	done

include units/packaging/packages.mk

# A system extension: all that install does, but only below /usr, as a directory, and with
# mksquashfs also as one file beside it. The last part of SYSEXT is the extension's name.
SYSEXT ?= bin/sysext/uplink-generator
ext     = $(abspath $(SYSEXT))

sysext: build
	rm -rf $(ext)
	$(MAKE) install DESTDIR=$(ext) PREFIX=/usr BINDIR=/usr/bin SYSCONFDIR=/usr/share \
	  $(usrlib)
	rm -rf $(ext)/usr/share/man $(ext)/usr/share/doc $(ext)/usr/share/uplink
	install -m 0644 units/sysext/uplink-sysext.target $(ext)/usr/lib/systemd/system/
	install -D -m 0644 units/sysext/10-uplink.conf $(ext)/usr/lib/systemd/system/multi-user.target.d/10-uplink.conf
	$(call notices,$(ext)/$(lic)/THIRD-PARTY.txt)
	install -d $(ext)/usr/lib/extension-release.d
	printf 'ID=_any\nARCHITECTURE=%s\nEXTENSION_RELOAD_MANAGER=1\n' $(systemd_arch) > $(ext)/usr/lib/extension-release.d/extension-release.$(notdir $(ext))
	@if command -v mksquashfs >/dev/null; then $(call mksquashfs,$(ext),$(ext).raw); fi

uninstall:
	rm -f $(DESTDIR)$(BINDIR)/uplinkctl $(DESTDIR)$(GENERATORDIR)/uplink-generator \
	  $(addprefix $(DESTDIR)$(UNITDIR)/,$(units) multi-user.target.wants/uplink-reload.service) \
	  $(DESTDIR)$(UDEVRULESDIR)/90-uplink.rules \
	  $(DESTDIR)$(SYSCONFDIR)/iproute2/rt_protos.d/uplink.conf $(DESTDIR)$(SYSCONFDIR)/iproute2/rt_tables.d/uplink.conf \
	  $(DESTDIR)$(BASHCOMPLETIONDIR)/uplinkctl $(DESTDIR)$(ZSHCOMPLETIONDIR)/_uplinkctl \
	  $(DESTDIR)$(FISHCOMPLETIONDIR)/uplinkctl.fish $(DESTDIR)$(SCHEMADIR)/uplink.schema.json \
	  $(foreach p,$(pages),$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(p)))/$(notdir $(p))) $(addprefix $(DESTDIR)$(DOCDIR)/,$(notdir $(docs)))
	rm -rf $(DESTDIR)$(EXAMPLEDIR) $(DESTDIR)$(LICENSEDIR)
	for d in $(DOCDIR) $(SCHEMADIR) $(SYSCONFDIR)/uplink; do rmdir $(DESTDIR)$$d 2>/dev/null || :; done # where nothing else is in it

clean:
	rm -rf bin dist
