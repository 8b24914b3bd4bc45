package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// ErrImporting says that a directory holds an import that is not complete. It is no state to start from.
var ErrImporting = errors.New("the store's directory is being filled")

// importMark is the file whose presence says that an import is not complete. It holds the manifest.
const importMark = "import"

// importMarkMax bounds the mark: a hundred bytes a file.
const importMarkMax = 16 << 20

// importFilesMax bounds how many files an import may have: a block file holds 4 Mi messages.
const importFilesMax = 1 << 16

// Importer fills a directory with what an Export of another replica gives. Until Commit the directory is not a store: Open
// refuses it with ErrImporting. Whatever was in it goes.
type Importer struct {
	dir  string
	fs   FS
	want ExportManifest

	mu     sync.Mutex
	files  map[string]*importFile
	closed bool
}

type importFile struct {
	file File
	have int64
	size int64
}

// Importing reports whether dir holds an import that is not complete.
func Importing(f FS, dir string) (bool, error) {
	names, err := f.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return slices.Contains(names, importMark), err
}

// NewImporter begins to fill dir, or goes on with the same import where it was left off: the manifest decides that.
func NewImporter(dir string, f FS, want ExportManifest) (*Importer, error) {
	if err := want.check(); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	m := &Importer{dir: dir, fs: f, want: want, files: make(map[string]*importFile)}
	if err := m.begin(); err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("import: %w", err)
	}
	return m, nil
}

// check refuses a manifest that names anything but a store's files: it comes from another machine.
func (m *ExportManifest) check() error {
	if len(m.Files) == 0 || len(m.Files) > importFilesMax || m.Applied < 0 || m.Files[0].Name != checkpointName(m.Applied) {
		return fmt.Errorf("manifest of %d files at offset %d: %w", len(m.Files), m.Applied, ErrCorrupt)
	}
	seen := make(map[string]bool, len(m.Files))
	for i, f := range m.Files {
		_, block := segmentStart(f.Name)
		if f.Size < 0 || seen[f.Name] || i > 0 && !block && !isKeyRunName(f.Name) {
			return fmt.Errorf("manifest has file %.64q of %d bytes: %w", f.Name, f.Size, ErrCorrupt)
		}
		seen[f.Name] = true
	}
	return nil
}

// segmentStart is the inverse of segmentName.
func segmentStart(name string) (uint64, bool) {
	digits, _ := strings.CutPrefix(name, "queue-")
	start, err := strconv.ParseUint(digits, 10, 64)
	return start, err == nil && segmentName(start) == name
}

// isKeyRunName reports whether a name is one that keyRange.name gives.
func isKeyRunName(name string) bool {
	parts := strings.Split(name, "-")
	if len(parts) != 4 || parts[0] != "keys" {
		return false
	}
	from, err1 := strconv.ParseInt(parts[1], 10, 64)
	to, err2 := strconv.ParseInt(parts[2], 10, 64)
	level, err3 := strconv.Atoi(parts[3])
	r := keyRange{from: from, to: to, level: level}
	return errors.Join(err1, err2, err3) == nil && from >= 0 && to >= from && level >= 0 && r.name() == name
}

func (m *Importer) begin() error {
	if err := m.fs.MkdirAll(m.dir); err != nil {
		return err
	}
	mark, err := json.Marshal(m.want)
	if err != nil {
		return err
	}
	if len(mark) > importMarkMax {
		return fmt.Errorf("manifest of %d bytes: %w", len(mark), ErrCorrupt)
	}
	same, err := m.sameMark(mark)
	if err != nil {
		return err
	}
	if !same {
		if err := m.startAnew(mark); err != nil {
			return err
		}
	}
	return m.openFiles()
}

// sameMark reports whether the directory holds the beginning of this very import.
func (m *Importer) sameMark(mark []byte) (bool, error) {
	f, err := m.fs.Open(filepath.Join(m.dir, importMark))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size != int64(len(mark)) {
		return false, err
	}
	old := make([]byte, size)
	if err := readFull(f, old, 0); err != nil {
		return false, err
	}
	return bytes.Equal(old, mark), nil
}

// startAnew writes the mark, which makes the directory no store any more, and only then removes what was there.
func (m *Importer) startAnew(mark []byte) error {
	f, err := m.fs.Create(filepath.Join(m.dir, importMark))
	if err != nil {
		return err
	}
	// An empty mark is durable first: it fits no manifest, so that files of an import before are not taken for this one's.
	err = errors.Join(f.Sync(), m.fs.SyncDir(m.dir))
	if err == nil {
		err = m.removeFiles()
	}
	if err == nil {
		_, err = f.WriteAt(mark, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (m *Importer) removeFiles() error {
	names, err := m.fs.List(m.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if isStoreFile(name) {
			if err := m.fs.Remove(filepath.Join(m.dir, name)); err != nil {
				return err
			}
		}
	}
	return m.fs.SyncDir(m.dir)
}

func (m *Importer) openFiles() error {
	for _, want := range m.want.Files {
		path := filepath.Join(m.dir, want.Name)
		f, err := m.fs.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			f, err = m.fs.Create(path)
		}
		if err != nil {
			return err
		}
		e := &importFile{file: f, size: want.Size}
		m.files[want.Name] = e
		size, err := f.Size()
		if err != nil {
			return err
		}
		e.have = min(size, want.Size)
	}
	return nil
}

// Have returns how many bytes of a file are there, from its start: WriteAt goes on from there.
func (m *Importer) Have(name string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.files[name]; e != nil {
		return e.have
	}
	return 0
}

// WriteAt adds the next bytes of a file; off is what Have says.
func (m *Importer) WriteAt(name string, b []byte, off int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.files[name]
	switch {
	case m.closed:
		return ErrClosed
	case e == nil:
		return fmt.Errorf("import: file %.64q: %w", name, ErrNotFound)
	case off != e.have || off+int64(len(b)) > e.size:
		return fmt.Errorf("import: %d bytes at %d of %s, which has %d of %d", len(b), off, name, e.have, e.size)
	}
	if _, err := e.file.WriteAt(b, off); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	e.have += int64(len(b))
	return nil
}

// Commit makes the import a store that Open opens, durably, and closes the importer. All files must be complete. If the
// checkpoint turns out not to be what the source has (the machine may have lost power on the way), the error is ErrCorrupt
// and the next import begins anew.
func (m *Importer) Commit() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	if err := m.commit(); err != nil {
		return errors.Join(fmt.Errorf("import: %w", err), m.close())
	}
	return m.close()
}

func (m *Importer) commit() error {
	for _, want := range m.want.Files {
		if e := m.files[want.Name]; e.have != e.size {
			return fmt.Errorf("%s has %d of %d bytes", want.Name, e.have, e.size)
		}
	}
	if err := m.checkCheckpoint(); err != nil {
		// Without its bytes the file is fetched once more.
		return errors.Join(err, m.files[m.want.Files[0].Name].file.Truncate(0))
	}
	for _, e := range m.files {
		if err := e.file.Sync(); err != nil {
			return err
		}
	}
	if err := m.fs.SyncDir(m.dir); err != nil {
		return err
	}
	if err := m.fs.Remove(filepath.Join(m.dir, importMark)); err != nil {
		return err
	}
	return m.fs.SyncDir(m.dir)
}

// checkCheckpoint reads the checkpoint through. The other files need no check here: what is damaged in them is rebuilt.
func (m *Importer) checkCheckpoint() error {
	r, err := newSectionReader(m.files[m.want.Files[0].Name].file, m.want.Applied)
	if err != nil {
		return err
	}
	for {
		kind, _, err := r.next()
		if err != nil || kind == sectionEnd {
			return err
		}
	}
}

// Close closes the files. An import that is not committed stays as it is, to be gone on with.
func (m *Importer) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.close()
}

func (m *Importer) close() error {
	if m.closed {
		return nil
	}
	m.closed = true
	var errs []error
	for _, e := range m.files {
		errs = append(errs, e.file.Close())
	}
	return errors.Join(errs...)
}
