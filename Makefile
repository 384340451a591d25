# make demo, make test: see README.md. make install is for packagers.

PREFIX     ?= /usr
BINDIR     ?= $(PREFIX)/bin
MANDIR     ?= $(PREFIX)/share/man
EXAMPLEDIR ?= $(PREFIX)/share/doc/uplink-generator/examples
SYSCONFDIR ?= /etc

DATADIR           ?= $(PREFIX)/share
BASHCOMPLETIONDIR ?= $(DATADIR)/bash-completion/completions
ZSHCOMPLETIONDIR  ?= $(DATADIR)/zsh/site-functions
FISHCOMPLETIONDIR ?= $(DATADIR)/fish/vendor_completions.d
SCHEMADIR         ?= $(DATADIR)/uplink-generator

# systemd says where its directories are; without its .pc file they are where most
# distributions have them.
systemd_dir   = $(or $(shell pkg-config --variable=$(1) $(or $(3),systemd) 2>/dev/null),$(2))
UNITDIR      ?= $(call systemd_dir,systemdsystemunitdir,/usr/lib/systemd/system)
GENERATORDIR ?= $(call systemd_dir,systemdsystemgeneratordir,/usr/lib/systemd/system-generators)
UDEVRULESDIR ?= $(call systemd_dir,udevdir,/usr/lib/udev,udev)/rules.d

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT  ?= $(shell git rev-parse --short HEAD 2>/dev/null)
module   = github.com/uplink-generator/uplink-generator
ldflags  = -s -w -X $(module)/cmd/internal/run.version=$(VERSION) -X $(module)/cmd/internal/run.commit=$(COMMIT)
# The same bytes wherever it is built.
build    = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(ldflags)'

# Namespaces need root; who is not root is asked for it once.
sudo = $(shell [ "$$(id -u)" = 0 ] || echo sudo)

staticcheck   = honnef.co/go/tools/cmd/staticcheck@v0.8.2
golangci_lint = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: all build demo test unit integration boot fuzz bench lint deps boot-deps install sysext uninstall clean

all: build

build:
	$(build) -o bin/ ./cmd/...

# The main job on real input, in a throw-away network namespace.
demo: deps build
	$(build) -o bin/demo ./integration/demo
	$(sudo) bin/demo

# Everything that proves it.
test: deps unit integration boot

unit:
	$(GO) vet ./...
	$(GO) test -race ./gen/... ./units/... ./apply/... ./cmd/...

integration:
	$(GO) test -race -timeout 20m $(if $(sudo),-exec "$(sudo) -E") $$($(GO) list ./integration/... | grep -v /integration/boot)

# Real boots of each systemd: it makes root file systems from the Debian mirror first, and
# keeps them in the user's cache directory.
boot: deps boot-deps
	$(GO) test -timeout 20m $(if $(sudo),-exec "$(sudo) -E") ./integration/boot/...

# Each fuzz target for a while: make fuzz FUZZTIME=10m
FUZZTIME ?= 20s
fuzz:
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

bench: deps build
	$(sudo) $(GO) run ./integration/bench

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l -d .; exit 1; }
	$(GO) vet ./...
	$(GO) mod tidy -diff
	$(GO) run $(staticcheck) ./...
	$(GO) run $(golangci_lint) run ./...

# What the tests need and a Debian-like machine may lack, as PACKAGE:PROGRAM.
deps: needs = iproute2:ip systemd:networkctl util-linux:unshare dbus-daemon:dbus-daemon man-db:man
boot-deps: needs = mmdebstrap:mmdebstrap systemd-container:systemd-nspawn zstd:zstd qemu-system-x86:qemu-system-x86_64 \
  squashfs-tools:mksquashfs busybox-static:busybox cpio:cpio
deps boot-deps:
	@missing=; \
	for p in $(needs); do \
	  command -v $${p#*:} >/dev/null || [ -x /usr/sbin/$${p#*:} ] || missing="$$missing $${p%%:*}"; \
	done; \
	[ -z "$$missing" ] || { echo "installing$$missing"; \
	  command -v apt-get >/dev/null || { echo "there is no apt-get here: install them by hand"; exit 1; }; \
	  $(sudo) apt-get -qq update && $(sudo) env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing; }

units = $(patsubst units/system/%.in,%,$(wildcard units/system/*.in))
pages = $(wildcard cmd/*/*.8 gen/spec/*.5)

install: build
	install -D -m 0755 bin/uplinkctl $(DESTDIR)$(BINDIR)/uplinkctl
	install -D -m 0755 bin/uplink-generator $(DESTDIR)$(GENERATORDIR)/uplink-generator
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
	install -D -m 0644 gen/spec/uplink.schema.json $(DESTDIR)$(SCHEMADIR)/uplink.schema.json
	for p in $(pages); do \
	  install -D -m 0644 $$p $(DESTDIR)$(MANDIR)/man$${p##*.}/$$(basename $$p) || exit 1; \
	done
	for e in integration/examples/*/; do \
	  install -D -m 0644 $$e/root/etc/uplink/uplink.toml $(DESTDIR)$(EXAMPLEDIR)/$$(basename $$e).toml || exit 1; \
	done

# A system extension: all that install does, below /usr alone, as a directory, and with
# mksquashfs as one file beside it. SYSEXT's last word is the extension's name.
SYSEXT ?= bin/sysext/uplink-generator
ext     = $(abspath $(SYSEXT))

sysext: build
	rm -rf $(ext)
	$(MAKE) install DESTDIR=$(ext) PREFIX=/usr BINDIR=/usr/bin SYSCONFDIR=/usr/share \
	  UNITDIR=/usr/lib/systemd/system GENERATORDIR=/usr/lib/systemd/system-generators UDEVRULESDIR=/usr/lib/udev/rules.d
	rm -rf $(ext)/usr/share/man $(ext)/usr/share/doc $(ext)/usr/share/uplink
	install -m 0644 units/sysext/uplink-sysext.target $(ext)/usr/lib/systemd/system/
	install -D -m 0644 units/sysext/10-uplink.conf $(ext)/usr/lib/systemd/system/multi-user.target.d/10-uplink.conf
	install -d $(ext)/usr/lib/extension-release.d
	printf 'ID=_any\nEXTENSION_RELOAD_MANAGER=1\n' > $(ext)/usr/lib/extension-release.d/extension-release.$(notdir $(ext))
	@if command -v mksquashfs >/dev/null; then mksquashfs $(ext) $(ext).raw -all-root -noappend -quiet -no-progress; fi

uninstall:
	rm -f $(DESTDIR)$(BINDIR)/uplinkctl $(DESTDIR)$(GENERATORDIR)/uplink-generator \
	  $(addprefix $(DESTDIR)$(UNITDIR)/,$(units) multi-user.target.wants/uplink-reload.service) \
	  $(DESTDIR)$(UDEVRULESDIR)/90-uplink.rules \
	  $(DESTDIR)$(SYSCONFDIR)/iproute2/rt_protos.d/uplink.conf $(DESTDIR)$(SYSCONFDIR)/iproute2/rt_tables.d/uplink.conf \
	  $(DESTDIR)$(BASHCOMPLETIONDIR)/uplinkctl $(DESTDIR)$(ZSHCOMPLETIONDIR)/_uplinkctl \
	  $(DESTDIR)$(FISHCOMPLETIONDIR)/uplinkctl.fish $(DESTDIR)$(SCHEMADIR)/uplink.schema.json \
	  $(foreach p,$(pages),$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(p)))/$(notdir $(p)))
	rm -rf $(DESTDIR)$(EXAMPLEDIR)

clean:
	rm -rf bin
