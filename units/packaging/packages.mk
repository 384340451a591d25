# make packages: a deb, an rpm, a tarball, a system extension and the bills of materials
# for each architecture, from the tree that `make install` makes, the same bytes wherever
# and whenever a commit is built with one version of Go.

DIST    ?= dist
ARCHES  ?= amd64 arm64 riscv64 s390x 386
FORMATS ?= deb rpm tar sysext sbom

nfpm_tool = github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
cyclonedx = github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

# Tools run on this machine, whatever is built.
tool = env -u GOARCH -u GOOS -u GOARM -u GOFLAGS $(GO) run

# Nothing bears a later time than the commit. A source tree without git has its own.
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),$(shell date -r CHANGELOG.md +%s))

# For dpkg and rpm alike: v1.2.3-rc1 comes before v1.2.3, and v1.2.3-4-gHASH, the fourth
# commit behind it, after it. Before the first tag commits are counted.
PKGVERSION ?= $(shell v=$$(echo '$(VERSION)' | sed -E 's/-dirty$$/+dirty/'); \
  case $$v in ([0-9]*.*|v[0-9]*.*) ;; (*) v=0~git$$(git rev-list --count HEAD 2>/dev/null || echo 0).$$v ;; esac; \
  echo "$$v" | sed -E 's/^v//; s/-([0-9]+)-(g[0-9a-f]+)/+\1.\2/; s/-([a-z])/~\1/; s/-/./g')

goarch = $(or $(GOARCH),$(if $(filter command,$(origin GOARCH)),$(error GOARCH is empty: name an architecture, as in GOARCH=s390x)),$(shell $(GO) env GOARCH))
# As nfpm takes it, and by the names of ConditionArchitecture= in systemd.unit(5).
nfpm_arch    = $(patsubst arm,arm7,$(goarch))
systemd_arch = $(or $(word 2,$(subst =, ,$(filter $(goarch)=%,amd64=x86-64 386=x86 ppc64le=ppc64-le loong64=loongarch64))),$(goarch))

# All of it below /usr/lib, whatever this machine's own systemd says.
usrlib = UNITDIR=/usr/lib/systemd/system GENERATORDIR=/usr/lib/systemd/system-generators UDEVRULESDIR=/usr/lib/udev/rules.d

# One file system image of a directory: $(call mksquashfs,DIRECTORY,FILE). The variable would
# be refused beside the options.
mksquashfs = env -u SOURCE_DATE_EPOCH mksquashfs $(1) $(2) -all-root -no-xattrs -noappend -quiet -no-progress \
  -mkfs-time $(SOURCE_DATE_EPOCH) -all-time $(SOURCE_DATE_EPOCH)

# Those of other versions are removed, so that SHA256SUMS has all that is there.
packages:
	rm -rf $(DIST)/build $(DIST)/uplink-generator[-_]* $(DIST)/SHA256SUMS
	@set -e; umask 022; mkdir -p $(DIST); for arch in $(ARCHES); do \
	  $(MAKE) --no-print-directory package GOARCH=$$arch; \
	done
	rm -rf $(DIST)/build
	cd $(DIST) && LC_ALL=C sha256sum uplink-generator[-_]* > SHA256SUMS

# Nothing is staged beside the sources, nor where somebody else's OUT is.
stage = $(DIST)/build/$(goarch)/
file  = uplink-generator_$(PKGVERSION)_$(goarch)

# For one architecture, in make's manner: GOARCH=s390x.
.PHONY: package stage $(addprefix package-,deb rpm tar sysext sbom)
package: $(addprefix package-,$(FORMATS))
stage package-sysext package-sbom: OUT = $(stage)bin

doc = usr/share/doc/uplink-generator
lic = usr/share/licenses/uplink-generator

# $(call notices,FILE) writes what the licences of those ask for whose code is in the programs,
# in an order that is no locale's.
define notices
	LC_ALL=C; export LC_ALL; $(modules) | \
	  { echo "$$($(GO) env GOROOT) Go $$($(GO) env GOVERSION)"; cat; } | while read -r dir name; do \
	    for f in $$dir/LICENSE* $$dir/COPYING* $$dir/NOTICE*; do \
	      [ ! -e "$$f" ] || { printf '==== %s: %s\n\n' "$$name" "$${f##*/}"; cat "$$f"; echo; }; \
	    done; done > $(1)
	chmod 0644 $(1)
endef
modules = $(GO) list -deps -f '{{with .Module}}{{if not .Main}}{{.Dir}} {{.Path}} {{.Version}}{{end}}{{end}}' ./cmd/... | LC_ALL=C sort -u

# The tree that all of them have, and beside it what differs between deb and rpm.
stage:
	rm -rf $(stage)tree $(stage)deb
	$(MAKE) -s install OUT=$(OUT) DESTDIR=$(abspath $(stage)tree) PREFIX=/usr BINDIR=/usr/bin SYSCONFDIR=/etc $(usrlib)
	install -m 0644 CHANGELOG.md $(stage)tree/$(doc)/
	sed -E -f units/packaging/readme.sed README.md > $(stage)tree/$(doc)/README.md
	chmod 0644 $(stage)tree/$(doc)/README.md
	$(call notices,$(stage)tree/$(lic)/THIRD-PARTY.txt)
	find $(stage)tree/usr/share/man -type f -exec gzip -9n {} +
	printf -- '- semver: "%s-1"\n  date: %s\n  packager: "%s"\n  deb: {urgency: medium, distributions: [unstable]}\n  changes: [{note: "%s"}]\n' \
	  '$(PKGVERSION)' "$$(date -u -d @$(SOURCE_DATE_EPOCH) +%FT%TZ)" '$(maintainer)' \
	  'Built from commit $(COMMIT).' > $(stage)changelog.yaml

maintainer = $(shell sed -n 's/^maintainer: //p' units/packaging/nfpm.yaml.in)

# $(call nfpm,deb,TREE) packs a tree. Folders that are others' too are left to them. In /etc
# there are the administrator's files. rpm can be told to leave out what is a doc, and never
# leaves out what is a license; to dpkg both are files.
define nfpm
	sed -e 's|@arch@|$(nfpm_arch)|' -e "s|@bundled@|$$($(modules) | sed 's/^[^ ]* \([^ ]*\) v\(.*\)/"bundled(golang(\1)) = \2"/' | paste -sd,)|" \
	  -e 's|@version@|$(PKGVERSION)|' -e 's|@changelog@|$(stage)changelog.yaml|' \
	  units/packaging/nfpm.yaml.in > $(stage)$(1).yaml
	find $(2) \
	  -type d -path '$(2)/*/uplink*' -printf "- {dst: '/%P', type: dir, file_info: {mode: 0755}}\n" -o -type d -o \
	  -type l -printf "- {dst: '/%P', src: '%l', type: symlink}\n" -o \
	  -path '$(2)/etc/*' -printf "- {dst: '/%P', src: '%p', type: config|noreplace}\n" -o \
	  $(if $(filter rpm,$(1)),-path '$(2)/$(lic)/*' -printf "- {dst: '/%P'$(comma) src: '%p'$(comma) type: license}\n" -o) \
	  $(if $(filter rpm,$(1)),'(' -path '$(2)/usr/share/man/*' -o -path '$(2)/usr/share/doc/*' ')' -printf "- {dst: '/%P'$(comma) src: '%p'$(comma) type: doc}\n" -o) \
	  -printf "- {dst: '/%P', src: '%p'}\n" | LC_ALL=C sort >> $(stage)$(1).yaml
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(tool) $(nfpm_tool) package --packager $(1) --config $(stage)$(1).yaml --target $(DIST)/
endef
comma = ,

# Debian wants the licence in a file of another form, texts compressed, and what is for zsh
# in a folder of its own.
package-deb: stage
	cp -a $(stage)tree $(stage)deb
	install -m 0644 units/packaging/deb/copyright $(stage)deb/$(doc)/copyright
	mv $(stage)deb/$(doc)/CHANGELOG.md $(stage)deb/$(doc)/changelog
	mv $(stage)deb/$(lic)/THIRD-PARTY.txt $(stage)deb/$(doc)/
	rm -r $(stage)deb/usr/share/licenses
	gzip -9n $(addprefix $(stage)deb/$(doc)/,README.md changelog THIRD-PARTY.txt)
	mv $(stage)deb/usr/share/zsh/site-functions $(stage)deb/usr/share/zsh/vendor-completions
	install -D -m 0644 units/packaging/deb/lintian-overrides $(stage)deb/usr/share/lintian/overrides/uplink-generator
	$(call nfpm,deb,$(stage)deb)

package-rpm: stage
	$(call nfpm,rpm,$(stage)tree)

package-tar: stage
	tar -C $(stage)tree --format=posix --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime \
	  --sort=name --mtime=@$(SOURCE_DATE_EPOCH) --owner=0 --group=0 --numeric-owner -cf - . | gzip -9n > $(DIST)/$(file).tar.gz

# To be named uplink-generator.raw where it is used: systemd compares the name with what is inside.
package-sysext: stage
	$(MAKE) -s sysext OUT=$(OUT) SYSEXT=$(stage)sysext/uplink-generator
	mv $(stage)sysext/uplink-generator.raw $(DIST)/$(file).sysext.raw

# From what Go has written into the programs.
package-sbom: stage
	for p in uplinkctl uplink-generator; do \
	  $(tool) $(cyclonedx) bin -json -noserial -notimestamp -std -version $(PKGVERSION) -output $(DIST)/$(file).$$p.cdx.json $(OUT)/$$p || exit 1; \
	done

# What the distributions' own checkers find is nothing, but for what the two files argue.
packages-lint:
	shellcheck -s sh units/packaging/deb/p* units/packaging/rpm/*
	lintian $(if $(sudo),,--allow-root) --display-info --pedantic --fail-on error,warning,info,pedantic $(DIST)/*.deb
	rpmlint --strict --config units/packaging/rpmlint.toml $(DIST)/*.rpm

# Two builds of the last commit, in two folders, by people with other habits: the same bytes.
REPRODUCE ?= amd64
pair       = $(abspath bin/reproducible)
reproducible:
	rm -rf $(pair)
	umask 022; git clone -q . $(pair)/one && $(MAKE) -s -C $(pair)/one packages DIST=dist ARCHES='$(REPRODUCE)' TZ=UTC LC_ALL=C
	umask 077; git clone -q . $(pair)/in/another-folder && $(MAKE) -s -C $(pair)/in/another-folder packages DIST=dist ARCHES='$(REPRODUCE)' TZ=Pacific/Kiritimati LC_ALL=$$(locale -a | grep -im1 '^en_US.utf-*8$$' || echo C.UTF-8)
	diff -r $(pair)/one/dist $(pair)/in/another-folder/dist
	@cat $(pair)/one/dist/SHA256SUMS

# What depends on the order of bytes and the size of a word, where both are other ones. The
# codecs' tests are run under qemu-user, whose programs are of another machine on this kernel:
# what speaks to the kernel is left out. Of the others, one runs a program of this machine, one
# looks at its own process, and one wants to be fast. 386 is for kernels that run it: under
# qemu-i386 Go's runtime loses its thread's own storage.
codecs   = ./apply/rtnl ./apply/probe ./gen ./gen/fib ./gen/lookup ./units
emulated = arm s390x riscv64
not_emulated = ^Test(HostileWordsGoNowhere|ALinkIsNetworkdsWhereItSaysSoAndRuns|MoreUplinksThanPriorities)$$
arches:
	set -e; for arch in $(emulated); do \
	  EMULATED=1 GOARCH=$$arch $(GO) test -exec qemu-$$arch -skip '$(not_emulated)' $(codecs); \
	done
	@GOARCH=386 $(GO) build -o bin/uplinkctl-386 ./cmd/uplinkctl
	@if bin/uplinkctl-386 --version >/dev/null 2>&1; then set -x; GOARCH=386 $(GO) test $(codecs); else \
	  echo "NOT RUN: this kernel runs no program for 386; their tests are only compiled" >&2; set -x; GOARCH=386 $(GO) vet $(codecs); fi
