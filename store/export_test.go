package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// copyExport copies what is missing of an export, n bytes at a time, and calls between after each piece.
func copyExport(e *Export, m *Importer, n int, between func()) error {
	buf := make([]byte, n)
	for _, f := range e.Files {
		for m.Have(f.Name) < f.Size {
			at := m.Have(f.Name)
			k, err := e.ReadAt(f.Name, buf, at)
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if err := m.WriteAt(f.Name, buf[:k], at); err != nil {
				return err
			}
			between()
		}
	}
	return nil
}

func (r *rig) export() *Export {
	r.t.Helper()
	e, err := r.Export()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(e.Close)
	return e
}

// openImported returns a rig over the same log and what an import has made of a file system.
func (r *rig) openImported(f *memFS) *rig {
	r.t.Helper()
	o := &rig{t: r.t, log: r.log, fs: f, o: r.o, filled: r.filled}
	o.open()
	r.t.Cleanup(func() { _ = o.Store.Close() })
	return o
}

func importing(t *testing.T, f *memFS, e *Export) *Importer {
	t.Helper()
	m, err := NewImporter(rigDir, f, e.ExportManifest)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The copy of a store that goes on being filled, checkpointed and trimmed meanwhile opens, and is the same store.
func TestExportFromARunningStore(t *testing.T) {
	r := newSmallRig(t)
	r.fill(900)
	r.checkpoint()
	r.fill(300)
	e, target := r.export(), newMemFS()
	m := importing(t, target, e)
	pieces := 0
	err := copyExport(e, m, 700, func() {
		if pieces++; pieces%3 != 0 || pieces > 60 {
			return
		}
		r.fill(40)
		if pieces%9 == 0 {
			r.checkpoint() // twice, and the files of the export are nobody else's
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if pieces < 60 {
		t.Fatalf("only %d pieces", pieces)
	}
	if err := m.Commit(); err != nil {
		t.Fatal(err)
	}
	o := r.openImported(target)
	o.expectAll()
	if got, want := o.Digest(), r.Digest(); got != want {
		t.Errorf("digest %v, want %v", got, want)
	}
	for i := range 3 {
		key := fmt.Sprint("u", i*300)
		if res := queryByKey(t, o.Store, "T", key, true); len(res.Messages) != 1 {
			t.Errorf("%d messages of key %s", len(res.Messages), key)
		}
	}
	o.fill(400)
	o.checkpoint()
	o.reopen()
	o.expectAll()

	// What only the export needed goes with the next checkpoint after it.
	kept := func() bool { return len(r.fs.files(rigDir, e.Files[0].Name)) == 1 }
	if !kept() {
		t.Error("the exported checkpoint was removed")
	}
	e.Close()
	r.restamp()
	r.replay()
	r.checkpoint()
	if kept() {
		t.Error("the exported checkpoint stays for ever")
	}
	if _, err := e.ReadAt(e.Files[0].Name, make([]byte, 1), 0); !errors.Is(err, ErrClosed) {
		t.Errorf("read of a closed export: %v", err)
	}
}

// The same, with the source in a goroutine of its own.
func TestExportAtTheSameTime(t *testing.T) {
	r := newSmallRig(t)
	r.fill(600)
	r.checkpoint()
	e, target := r.export(), newMemFS()
	m := importing(t, target, e)
	var source sync.WaitGroup
	source.Go(func() {
		for range 5 {
			r.fill(150)
			r.checkpoint()
		}
	})
	err := copyExport(e, m, 512, func() {})
	source.Wait()
	if err = errors.Join(err, m.Commit()); err != nil {
		t.Fatal(err)
	}
	o := r.openImported(target)
	o.expectAll()
	if o.Digest() != r.Digest() {
		t.Error("digests differ")
	}
}

// Wherever an import is interrupted, by a kill or a power cut, the directory is no store, and the import goes on or begins
// anew until it is one.
func TestImportIsInterrupted(t *testing.T) {
	r := newSmallRig(t)
	r.fill(700)
	r.checkpoint()
	r.fill(20)
	e := r.export()
	old := newSmallRig(t) // what was in the directory before must not come back
	old.fill(100)
	old.checkpoint()
	was := old.export()
	boom := errors.New("cut")
	for stop := 0; ; stop++ {
		target := old.fs.clone()
		operations := 0
		target.failWith(func(op, name string) error {
			if operations++; operations <= stop {
				return nil
			}
			return &fs.PathError{Op: op, Path: name, Err: boom}
		})
		attempt := func(f *memFS) error {
			m, err := NewImporter(rigDir, f, e.ExportManifest)
			if err != nil {
				return err
			}
			if err := copyExport(e, m, 4000, func() {}); err != nil {
				return errors.Join(err, m.Close())
			}
			return m.Commit()
		}
		err := attempt(target)
		for _, after := range []*memFS{target.clone(), target.crash(rand.New(rand.NewPCG(uint64(stop), 7)))} {
			imported := err == nil
			if s, openErr := Open(rigDir, r.log, Options{FS: after, segmentBlocks: 4}); openErr == nil {
				at := s.AppliedOffset()
				_ = s.Close()
				if imported = at == e.Applied; !imported && at != was.Applied {
					t.Fatalf("stopped before operation %d: a store at %d", stop, at)
				}
			} else if !errors.Is(openErr, ErrImporting) || err == nil {
				t.Fatalf("stopped before operation %d: open: %v", stop, openErr)
			}
			for tries := 0; !imported; tries++ {
				if err := attempt(after); err == nil {
					break
				} else if !errors.Is(err, ErrCorrupt) || tries > 1 {
					t.Fatalf("stopped before operation %d, again: %v", stop, err)
				}
			}
			o := r.openImported(after)
			o.expectAll()
			if o.Digest() != r.Digest() {
				t.Fatalf("stopped before operation %d: digests differ", stop)
			}
			_ = o.Close()
		}
		if err == nil {
			if stop < 20 {
				t.Fatalf("only %d file operations", stop)
			}
			return
		}
		if !errors.Is(err, boom) {
			t.Fatal(err)
		}
		stop += stop / 6
	}
}

// What arrived damaged is rebuilt from the log, but for the checkpoint, which Commit refuses.
func TestImportOfDamagedFiles(t *testing.T) {
	r := newSmallRig(t)
	r.fill(700)
	r.checkpoint()
	e := r.export()
	for _, prefix := range []string{"queue-", "keys-", "checkpoint-"} {
		target := newMemFS()
		m := importing(t, target, e)
		if err := copyExport(e, m, 1<<20, func() {}); err != nil {
			t.Fatal(err)
		}
		for _, name := range target.files(rigDir, prefix) {
			target.damage(name, func(b []byte) []byte {
				for i := len(b) / 3; i < len(b); i += 97 {
					b[i] ^= 0x40
				}
				return b
			})
		}
		err := m.Commit()
		if prefix == "checkpoint-" {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("commit of a damaged checkpoint: %v", err)
			}
			m = importing(t, target, e)
			if have := m.Have(e.Files[0].Name); have != 0 {
				t.Errorf("%d bytes of the damaged checkpoint count", have)
			}
			err = errors.Join(copyExport(e, m, 1<<20, func() {}), m.Commit())
		}
		if err != nil {
			t.Fatal(err)
		}
		o := r.openImported(target)
		o.expectAll()
		if o.Digest() != r.Digest() {
			t.Errorf("%s: digests differ", prefix)
		}
		if res := queryByKey(t, o.Store, "T", "u5", true); len(res.Messages) != 1 {
			t.Errorf("%s: %d messages of a key", prefix, len(res.Messages))
		}
	}
}

func TestImportOfAnotherManifestBeginsAnew(t *testing.T) {
	r := newSmallRig(t)
	r.fill(300)
	r.checkpoint()
	first, target := r.export(), newMemFS()
	m := importing(t, target, first)
	if err := copyExport(first, m, 1<<20, func() {}); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	r.fill(300)
	r.checkpoint()
	second := r.export()
	m = importing(t, target, second)
	for _, f := range second.Files {
		if n := m.Have(f.Name); n != 0 {
			t.Errorf("%d bytes of %s are there", n, f.Name)
		}
	}
	if err := m.Commit(); err == nil {
		t.Error("an import without its files was committed")
	}
	m = importing(t, target, second)
	if err := errors.Join(copyExport(second, m, 1<<20, func() {}), m.Commit()); err != nil {
		t.Fatal(err)
	}
	o := r.openImported(target)
	o.expectAll()
	if filling, err := Importing(target, rigDir); filling || err != nil {
		t.Errorf("importing %v, %v", filling, err)
	}
}

// The manifest comes from another machine.
func TestImportRefusesForeignNames(t *testing.T) {
	point := ExportFile{Name: checkpointName(7), Size: 1}
	for _, files := range [][]ExportFile{
		nil,
		{{Name: checkpointName(8), Size: 1}},
		{{Name: checkpointName(7), Size: -1}},
		{point, point},
		{point, {Name: "../keys-0"}},
		{point, {Name: "queue-1"}},
		{point, {Name: "queue-" + strings.Repeat("9", 21)}},
		{point, {Name: "keys-" + strings.Repeat("0", 20) + "-" + strings.Repeat("0", 20) + "-/../x"}},
		{point, {Name: checkpointName(9)}},
		{point, {Name: importMark}},
	} {
		if _, err := NewImporter(rigDir, newMemFS(), ExportManifest{Applied: 7, Files: files}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: %v", files, err)
		}
	}
	ok := []ExportFile{point, {Name: segmentName(4)}, {Name: (&keyRange{from: 1, to: 5, level: 2}).name(), Size: 9}}
	f := newMemFS()
	m, err := NewImporter(rigDir, f, ExportManifest{Applied: 7, Files: ok})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		n    int
		off  int64
	}{{"x", 1, 0}, {point.Name, 2, 0}, {point.Name, 1, 1}, {filepath.Join("..", point.Name), 1, 0}} {
		if err := m.WriteAt(c.name, make([]byte, c.n), c.off); err == nil {
			t.Errorf("%d bytes of %s at %d were taken", c.n, c.name, c.off)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestExportWithoutACheckpoint(t *testing.T) {
	r := newSmallRig(t)
	if _, err := r.Export(); !errors.Is(err, ErrNotFound) {
		t.Errorf("export: %v", err)
	}
}
