package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
)

// ExportFile is one file of an Export. Of its bytes the first Size count.
type ExportFile struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// ExportManifest says what an Export consists of; it is what an Importer starts from.
type ExportManifest struct {
	Applied int64        `json:"applied"` // log position that the state is of
	Files   []ExportFile `json:"files"`   // the checkpoint first
}

// Export is the newest checkpoint of a running store, to be copied file by file. The files that it names are not removed
// until Close, and the store goes on writing: block files grow meanwhile and damaged blocks are repaired, so a copy is like
// what a killed process leaves. Opening it finds what does not fit and rebuilds that from the log.
type Export struct {
	ExportManifest
	store *Store

	mu     sync.Mutex
	open   map[string]File
	closed bool
}

// Export pins the newest checkpoint. The error is ErrNotFound if there is none yet.
func (s *Store) Export() (*Export, error) {
	s.persistMu.Lock()
	defer s.persistMu.Unlock()
	if s.closed.Load() {
		return nil, ErrClosed
	}
	if len(s.kept) == 0 {
		return nil, fmt.Errorf("export: no checkpoint: %w", ErrNotFound)
	}
	refs := s.kept[len(s.kept)-1]
	e := &Export{ExportManifest: ExportManifest{Applied: refs.applied}, store: s, open: make(map[string]File)}
	for _, name := range append([]string{refs.name}, refs.files...) {
		size, err := e.size(name, refs)
		if errors.Is(err, fs.ErrNotExist) && name != refs.name {
			continue // lost: it is rebuilt there as it would be here
		}
		if err != nil {
			return nil, fmt.Errorf("export: %w", err)
		}
		e.Files = append(e.Files, ExportFile{Name: name, Size: size})
	}
	s.exports = append(s.exports, e)
	return e, nil
}

// size is how much of a file belongs to a checkpoint: of block files, what lies before the checkpoint's last block.
func (e *Export) size(name string, refs checkpointRefs) (int64, error) {
	f, err := e.store.fs.Open(filepath.Join(e.store.dir, name))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	if start, ok := segmentStart(name); ok {
		per := e.store.blocks.segmentBlocks
		blocks := min(refs.blocks-min(start, refs.blocks), per)
		size = min(size, segmentHeader+int64(per)*labelBytes+int64(blocks)*blockBytes)
	}
	return size, nil
}

// ReadAt reads from one of the files, as File.ReadAt does. It may be called by many goroutines.
func (e *Export) ReadAt(name string, p []byte, off int64) (int, error) {
	f, size, err := e.file(name)
	if err != nil {
		return 0, err
	}
	if off < 0 || off >= size {
		return 0, io.EOF
	}
	if rest := size - off; int64(len(p)) > rest {
		n, err := f.ReadAt(p[:rest], off)
		if err == nil {
			err = io.EOF
		}
		return n, err
	}
	return f.ReadAt(p, off)
}

// file opens a file of the export when it is first read.
func (e *Export) file(name string) (File, int64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, 0, ErrClosed
	}
	i := slices.IndexFunc(e.Files, func(f ExportFile) bool { return f.Name == name })
	if i < 0 {
		return nil, 0, fmt.Errorf("file %.64q of an export: %w", name, ErrNotFound)
	}
	if e.open[name] == nil {
		f, err := e.store.fs.Open(filepath.Join(e.store.dir, name))
		if err != nil {
			return nil, 0, err
		}
		e.open[name] = f
	}
	return e.open[name], e.Files[i].Size, nil
}

// Close lets go of the checkpoint. Its files are removed with the next one, if nobody needs them any more.
func (e *Export) Close() {
	s := e.store
	s.persistMu.Lock()
	s.exports = slices.DeleteFunc(s.exports, func(o *Export) bool { return o == e })
	s.persistMu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for _, f := range e.open {
		_ = f.Close()
	}
	clear(e.open)
}
