package namesrv

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// stateFile is a small file that is replaced as a whole.
type stateFile struct {
	dir  *os.Root // the name cannot lead out of it
	name string
}

func openStateFile(path string) (stateFile, error) {
	dir, name := filepath.Split(path)
	if name == "" {
		return stateFile{}, fmt.Errorf("%q names no file", path)
	}
	dir = filepath.Clean(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return stateFile{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return stateFile{}, err
	}
	return stateFile{root, name}, nil
}

func (f stateFile) close() error { return f.dir.Close() }

// read returns the whole file, which may have at most bytesMax bytes.
func (f stateFile) read(bytesMax int64) ([]byte, error) {
	file, err := f.dir.Open(f.name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, bytesMax+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > bytesMax {
		return nil, fmt.Errorf("more than %d bytes", bytesMax)
	}
	return data, nil
}

// write replaces the file's content. After a crash at any point the file holds the old content or the new; once write has
// returned nil, the new.
func (f stateFile) write(content []byte) error {
	temporary := f.name + ".tmp"
	if err := f.writeSynced(temporary, content); err != nil {
		return errors.Join(err, f.discard(temporary))
	}
	if err := f.dir.Rename(temporary, f.name); err != nil {
		return errors.Join(err, f.discard(temporary))
	}
	d, err := f.dir.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (f stateFile) writeSynced(name string, content []byte) error {
	file, err := f.dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err := file.Write(content); err != nil {
		return errors.Join(err, file.Close())
	}
	return errors.Join(file.Sync(), file.Close())
}

func (f stateFile) discard(name string) error {
	if err := f.dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
