package boot

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// keyring has the keys that Debian's archive is signed with.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// ubuntuKey is the key that Ubuntu's archive is signed with (F6ECB3762474EDA9D21B7022871920D1991BC93C,
// from Ubuntu's package ubuntu-keyring): a Debian has none.
//
//go:embed ubuntu.asc
var ubuntuKey []byte

// sources returns a suite's lines of sources.list(5). For Ubuntu it writes the archive's key to the
// file key first.
func (s Suite) sources(ctx context.Context, key string) ([]string, error) {
	uri, err := s.mirror()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(Ubuntu, s) {
		return []string{fmt.Sprintf("deb [signed-by=%s] %s %s main", keyring, uri, s)}, nil
	}
	if err := reach(ctx, fmt.Sprintf("%s/dists/%s/InRelease", strings.TrimSuffix(uri, "/"), s)); err != nil {
		return nil, err
	}
	if err := os.WriteFile(key, ubuntuKey, 0o644); err != nil {
		return nil, fmt.Errorf("key of Ubuntu's archive: %w", err)
	}
	var lines []string
	for _, pocket := range []string{"", "-updates"} { // as Ubuntu's hosts have it
		lines = append(lines, fmt.Sprintf("deb [signed-by=%s] %s %s%s main universe", key, uri, s, pocket))
	}
	return lines, nil
}

// ErrUnreachable says that Ubuntu's archive cannot be reached, as from a network that only has a
// mirror of Debian's.
var ErrUnreachable = errors.New("the archive of Ubuntu cannot be reached")

// reach returns ErrUnreachable if a file of the archive cannot be had.
func reach(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		err = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnreachable, url, err)
	}
	return nil
}

// mirror returns where this computer gets a suite's packages from: that may be a nearby cache, or
// the only server that can be reached. A computer that runs another distribution takes the
// archive itself.
func (s Suite) mirror() (string, error) {
	ending, archive := "/debian", "http://deb.debian.org/debian"
	if slices.Contains(Ubuntu, s) {
		ending, archive = "/ubuntu", "http://archive.ubuntu.com/ubuntu"
	}
	files := []string{"/etc/apt/sources.list"}
	for _, pattern := range []string{"/etc/apt/sources.list.d/*.list", "/etc/apt/sources.list.d/*.sources"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		files = append(files, found...)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("find a mirror: %w", err)
		}
		for _, uri := range archives(string(data)) {
			// The security archive has another ending, and other vendors have other names.
			if strings.HasSuffix(strings.TrimSuffix(uri, "/"), ending) {
				return uri, nil
			}
		}
	}
	return archive, nil
}

// archives returns the URIs in a file of sources.list(5), of either format.
func archives(text string) (uris []string) {
	inURIs := false
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		folded := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
		switch {
		case len(fields) == 0:
			inURIs = false
			continue
		case strings.HasPrefix(fields[0], "#"):
			continue
		case fields[0] == "deb":
			if i := slices.IndexFunc(fields, isURI); i > 0 {
				uris = append(uris, fields[i])
			}
			continue
		case !folded:
			key, value, _ := strings.Cut(line, ":")
			inURIs = strings.EqualFold(key, "URIs")
			fields = strings.Fields(value)
		}
		if inURIs {
			uris = append(uris, fields...)
		}
	}
	return uris
}

func isURI(word string) bool { return strings.Contains(word, "://") }
