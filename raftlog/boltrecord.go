package raftlog

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// recordHost is the optional ability of an FS to keep the first copy of the vote record in raft-boltdb, which needs a real file.
type recordHost interface {
	// openRecord opens or creates the database at path. Damage is an error and changes nothing.
	openRecord(path string, watch *watchdog) (recordStore, error)
}

var boltKey = []byte("vote")

// boltRecord keeps the record as one value of a raft-boltdb store.
type boltRecord struct {
	db    *raftboltdb.BoltStore
	path  string
	watch *watchdog
}

func (osFS) openRecord(path string, watch *watchdog) (recordStore, error) {
	if fi, err := os.Stat(path); err == nil && fi.Size() > 0 {
		if err := probeBolt(path); err != nil {
			return nil, stableCorrupt(err)
		}
	}
	db, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{Timeout: time.Second}})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &boltRecord{db, path, watch}, nil
}

// probeBolt reads the record without writing to the file. bbolt trusts its pages: damage shows as an error, a panic or a fault in
// its memory map.
func probeBolt(path string) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %v", path, p)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
}

func (r *boltRecord) load() ([]byte, error) {
	b, err := r.db.Get(boltKey)
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return nil, nil
	}
	return b, err
}

func (r *boltRecord) save(record []byte, _ uint64) error {
	op := r.watch.begin("write", r.path)
	defer r.watch.end(op)
	return r.db.Set(boltKey, record)
}

func (r *boltRecord) Close() error { return r.db.Close() }
