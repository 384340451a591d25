package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Product is what the project's own `make install` installs.
type Product struct{ dir string }

// The trees below a Product's directory.
const (
	merged   = "merged"   // /lib is /usr/lib
	unmerged = "unmerged" // systemd and its units are in /lib
)

// BuildProduct builds the project and installs it, not into the computer but into a directory,
// once for each place where systemd looks. Close removes it.
func BuildProduct(ctx context.Context) (*Product, error) {
	dir, err := ownDir(productPrefix)
	if err != nil {
		return nil, err
	}
	p := &Product{dir}
	if err := p.install(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("install the product: %w", err), p.Close())
	}
	return p, nil
}

func (p *Product) install(ctx context.Context) error {
	gomod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	source := filepath.Dir(strings.TrimSpace(string(gomod)))
	for tree, lib := range map[string]string{merged: "/usr/lib", unmerged: "/lib"} {
		err := command(ctx, "make", "-C", source, "install",
			"DESTDIR="+filepath.Join(p.dir, tree),
			"UNITDIR="+lib+"/systemd/system", "GENERATORDIR="+lib+"/systemd/system-generators")
		if err != nil {
			return err
		}
	}
	return nil
}

// Tree returns the directory with what belongs into a root.
func (p *Product) Tree(root string) (string, error) {
	info, err := os.Lstat(filepath.Join(root, "lib"))
	if err != nil {
		return "", err
	}
	if info.IsDir() {
		return filepath.Join(p.dir, unmerged), nil
	}
	return filepath.Join(p.dir, merged), nil
}

// Close removes the installed product.
func (p *Product) Close() error { return os.RemoveAll(p.dir) }
