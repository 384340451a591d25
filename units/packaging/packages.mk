# make packages: a deb, an rpm, a tarball, a system extension and the bills of materials
# for each architecture, from the tree that `make install` makes. One commit and one version
# of Go give the same bytes, wherever and whenever they are built.

DIST    ?= dist
ARCHES  ?= amd64 arm64 riscv64 s390x 386
FORMATS ?= deb rpm tar sysext sbom

nfpm_tool = github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
cyclonedx = github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

# Tools run on this machine, whatever architecture is built for.
tool = env -u GOARCH -u GOOS -u GOARM -u GOFLAGS $(GO) run

# No file has a later time than the commit, or without git than CHANGELOG.md.
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),$(shell date -r CHANGELOG.md +%s))

# It sorts for dpkg and rpm alike: v1.2.3-rc1 before v1.2.3, and v1.2.3-4-gHASH, the fourth
# commit after it, behind it. Before the first tag it counts commits.
PKGVERSION ?= $(shell v=$$(echo '$(VERSION)' | sed -E 's/-dirty$$/+dirty/'); \
  case $$v in ([0-9]*.*|v[0-9]*.*) ;; (*) v=0~git$$(git rev-list --count HEAD 2>/dev/null || echo 0).$$v ;; esac; \
  echo "$$v" | sed -E 's/^v//; s/-([0-9]+)-(g[0-9a-f]+)/+\1.\2/; s/-([a-z])/~\1/; s/-/./g')

goarch = $(or $(GOARCH),$(if $(filter command,$(origin GOARCH)),$(error GOARCH is empty: name an architecture, as in GOARCH=s390x)),$(shell $(GO) env GOARCH))
# The names that nfpm takes, and those of ConditionArchitecture= in systemd.unit(5).
nfpm_arch    = $(patsubst arm,arm7,$(goarch))
systemd_arch = $(or $(word 2,$(subst =, ,$(filter $(goarch)=%,amd64=x86-64 386=x86 ppc64le=ppc64-le loong64=loongarch64))),$(goarch))

# Everything goes below /usr/lib, whatever this machine's own systemd says.
usrlib = UNITDIR=/usr/lib/systemd/system GENERATORDIR=/usr/lib/systemd/system-generators UDEVRULESDIR=/usr/lib/udev/rules.d

# A file system image of a directory: $(call mksquashfs,DIRECTORY,FILE). mksquashfs refuses
# SOURCE_DATE_EPOCH beside the options for times.
mksquashfs = env -u SOURCE_DATE_EPOCH mksquashfs $(1) $(2) -all-root -no-xattrs -noappend -quiet -no-progress \
  -mkfs-time $(SOURCE_DATE_EPOCH) -all-time $(SOURCE_DATE_EPOCH)

# Packages of other versions are removed, so that SHA256SUMS covers all that is there.
packages:
	rm -rf $(DIST)/build $(DIST)/uplink-generator[-_]* $(DIST)/SHA256SUMS
	@set -e; umask 022; mkdir -p $(DIST); for arch in $(ARCHES); do \
	  $(MAKE) --no-print-directory package GOARCH=$$arch; \
	done
	rm -rf $(DIST)/build
	cd $(DIST) && LC_ALL=C sha256sum uplink-generator[-_]* > SHA256SUMS

# Nothing is staged beside the sources, or in an OUT that the caller has given.
stage = $(DIST)/build/$(goarch)/
file  = uplink-generator_$(PKGVERSION)_$(goarch)

# For one architecture, given as a make variable: GOARCH=s390x.
.PHONY: package stage $(addprefix package-,deb rpm tar sysext sbom)
package: $(addprefix package-,$(FORMATS))
stage package-sysext package-sbom: OUT = $(stage)bin

doc = usr/share/doc/uplink-generator
lic = usr/share/licenses/uplink-generator

# $(call notices,FILE) writes the notices that the licences of all linked code ask for, in an
# order that does not depend on the locale.
define notices
	LC_ALL=C; export LC_ALL; $(modules) | \
	  { echo "$$($(GO) env GOROOT) Go $$($(GO) env GOVERSION)"; cat; } | while read -r dir name; do \
	    for f in $$dir/LICENSE* $$dir/COPYING* $$dir/NOTICE*; do \
	      [ ! -e "$$f" ] || { printf '==== %s: %s\n\n' "$$name" "$${f##*/}"; cat "$$f"; echo; }; \
	    done; done > $(1)
	chmod 0644 $(1)
endef
modules = $(GO) list -deps -f '{{with .Module}}{{if not .Main}}{{.Dir}} {{.Path}} {{.Version}}{{end}}{{end}}' ./cmd/... | LC_ALL=C sort -u

# The tree that all packages share, and beside it what differs between deb and rpm.
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

# $(call nfpm,deb,TREE) packs a tree. It owns only folders that no other package has. Files in
# /etc are the administrator's to change. rpm can be told to leave out docs, but never a
# license; to dpkg both are plain files.
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

# Debian wants the licence in a format of its own, texts compressed, and zsh's completion in
# another folder.
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

# It must be named uplink-generator.raw where it is used: systemd compares the name with the one inside.
package-sysext: stage
	$(MAKE) -s sysext OUT=$(OUT) SYSEXT=$(stage)sysext/uplink-generator
	mv $(stage)sysext/uplink-generator.raw $(DIST)/$(file).sysext.raw

# From the build information that Go writes into the programs.
package-sbom: stage
	for p in uplinkctl uplink-generator; do \
	  $(tool) $(cyclonedx) bin -json -noserial -notimestamp -std -version $(PKGVERSION) -output $(DIST)/$(file).$$p.cdx.json $(OUT)/$$p || exit 1; \
	done

# The distributions' own checkers must find nothing, except what the override file and
# rpmlint.toml give a reason for.
packages-lint:
	shellcheck -s sh units/packaging/deb/p* units/packaging/rpm/*
	lintian $(if $(sudo),,--allow-root) --display-info --pedantic --fail-on error,warning,info,pedantic $(DIST)/*.deb
	rpmlint --strict --config units/packaging/rpmlint.toml $(DIST)/*.rpm

# Two builds of the last commit, in two folders, with another umask, time zone and locale, must
# give the same bytes.
REPRODUCE ?= amd64
pair       = $(abspath bin/reproducible)
reproducible:
	rm -rf $(pair)
	umask 022; git clone -q . $(pair)/one && $(MAKE) -s -C $(pair)/one packages DIST=dist ARCHES='$(REPRODUCE)' TZ=UTC LC_ALL=C
	umask 077; git clone -q . $(pair)/in/another-folder && $(MAKE) -s -C $(pair)/in/another-folder packages DIST=dist ARCHES='$(REPRODUCE)' TZ=Pacific/Kiritimati LC_ALL=$$(locale -a | grep -im1 '^en_US.utf-*8$$' || echo C.UTF-8)
	diff -r $(pair)/one/dist $(pair)/in/another-folder/dist
	@cat $(pair)/one/dist/SHA256SUMS

# Tests of code that depends on byte order and word size, on architectures where these differ.
# They run under qemu-user: programs of another architecture on this kernel. Tests that speak
# to the kernel are left out. Three others are skipped: one runs a program of this machine, one
# looks at its own process, and one needs to be fast. 386 runs only on kernels that can run it:
# under qemu-i386 Go's runtime loses its thread-local storage.
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
