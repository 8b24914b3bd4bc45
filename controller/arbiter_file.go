package controller

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

const (
	arbiterFileName    = "arbiter.json"
	arbiterFileVersion = 1
	arbiterDirName     = 32 // characters
)

// arbiterFile says whose arbiter lives in a directory. It is written when the arbiter listens for the first time, and is the first to go
// when it is removed.
type arbiterFile struct {
	Version      int    `json:"version"`
	Cluster      string `json:"cluster"`
	Group        string `json:"group"`
	Port         int    `json:"port"`
	SegmentBytes int64  `json:"segmentBytes"`
	Seeded       bool   `json:"seeded"` // by the group's leader, once
}

func (f *arbiterFile) address(host string) string {
	return net.JoinHostPort(host, strconv.Itoa(f.Port))
}

// groupKey cannot be the same for two groups: names have no control characters.
func groupKey(cluster, group string) string { return cluster + "\x00" + group }

// arbiterDir is the name of a group's directory: names of groups do not become names of files.
func arbiterDir(cluster, group string) string {
	sum := sha256.Sum256([]byte(groupKey(cluster, group)))
	return hex.EncodeToString(sum[:])[:arbiterDirName]
}

func readArbiterFile(dir string) (f arbiterFile, err error) {
	text, err := os.ReadFile(filepath.Join(dir, arbiterFileName))
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return f, err
	}
	if f.Version != arbiterFileVersion || f.Port < 1 || f.Port > 65535 {
		return f, fmt.Errorf("version %d, port %d", f.Version, f.Port)
	}
	return f, nil
}

// write replaces the file. After a crash it holds the old content or the new one, and the new one once write has returned nil.
func (f *arbiterFile) write(dir string) error {
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	name := filepath.Join(dir, arbiterFileName)
	file, err := os.Create(name + ".tmp")
	if err != nil {
		return err
	}
	if _, err = file.Write(append(text, '\n')); err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return err
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

// removeArbiterFile gives an arbiter up: what else is in the directory is removed at the next start at the latest.
func removeArbiterFile(dir string) error {
	if err := os.Remove(filepath.Join(dir, arbiterFileName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
