package raftlog

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
)

var errSegmentClosed = errors.New("raftlog: segment is closed")

// readFull reads until p is full or the file ends; reaching the end is not an error.
func readFull(r io.ReaderAt, p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		k, err := r.ReadAt(p[n:], off+int64(n))
		n += k
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if k == 0 {
			return n, nil
		}
	}
	return n, nil
}

// joinClose closes c on an error path and adds a failure of that to err.
func joinClose(err error, c io.Closer) error {
	if cerr := c.Close(); cerr != nil {
		return errors.Join(err, cerr)
	}
	return err
}

// replaceFile makes the file called name hold data, durably: the old contents or the new ones are found after a crash.
func replaceFile(fsys FS, dir, name string, data []byte) error {
	tmp := name + tmpSuffix
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(data, 0); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return joinClose(err, f)
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}

// readFile returns the contents of a file of at most max bytes.
func readFile(fsys FS, name string, max int) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > int64(max) {
		return nil, errors.New(name + " is larger than it can be")
	}
	b := make([]byte, size)
	n, err := readFull(f, b, 0)
	return b[:n], err
}

func removeIfThere(fsys FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// notify wakes the one goroutine that waits on ch; ch holds one element.
func notify(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// makeDir makes dir and what is missing above it, durably.
func makeDir(fsys FS, dir string) error {
	if _, err := fsys.List(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(fsys, parent); err != nil {
			return err
		}
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	return fsys.SyncDir(parent)
}
