// Package programs builds the project's own programs as they are released, for the integration
// tests, the demo and the benchmarks.
package programs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// module finds the sources wherever in the module the caller is.
const module = "github.com/uplink-generator/uplink-generator"

// The programs.
const (
	Generator = "uplink-generator"
	Control   = "uplinkctl"
)

// Build builds the programs into dir the way they are released: static, without
// the paths of this machine, without symbols.
func Build(ctx context.Context, dir string) error {
	return Packages(ctx, dir, module+"/cmd/"+Generator, module+"/cmd/"+Control)
}

// Packages builds any main packages into dir, with the same flags.
func Packages(ctx context.Context, dir string, packages ...string) error {
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", dir + string(filepath.Separator)}, packages...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
