package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// keyring has the keys that Debian's archive is signed with.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// defaultMirror is for a computer that does not run Debian.
const defaultMirror = "http://deb.debian.org/debian"

// mirror returns where this computer gets Debian's packages from: that may be a nearby cache, or
// the only server that can be reached.
func mirror() (string, error) {
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
			if strings.HasSuffix(strings.TrimSuffix(uri, "/"), "/debian") {
				return uri, nil
			}
		}
	}
	return defaultMirror, nil
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
