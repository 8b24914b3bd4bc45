package raftlog

import "io"

// File is an open file. ReadAt may be called at any time by anybody; WriteAt, Truncate and Sync may overlap with each other only
// on disjoint ranges, and Sync covers every write that returned before it was called.
type File = interface {
	io.ReaderAt
	io.WriterAt
	// Truncate sets the size; growing fills with zeros.
	Truncate(size int64) error
	// Sync returns when all data written before is on stable storage, together with the size needed to read it back.
	Sync() error
	Size() (int64, error)
	io.Closer
}

// FS is the file system as far as a log needs it. Names are ordinary paths. A created, renamed or removed name is durable only
// after SyncDir of its directory. Errors satisfy errors.Is against fs.ErrNotExist and fs.ErrExist.
type FS = interface {
	// Create makes an empty file, or empties an existing one, for reading and writing.
	Create(name string) (File, error)
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// Rename replaces newName.
	Rename(oldName, newName string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	MkdirAll(dir string) error
	SyncDir(dir string) error
	// List returns the base names in dir in lexical order.
	List(dir string) ([]string, error)
}

// Locker is the optional ability of an FS to keep a second process out of a directory. Lock fails at once if name is locked.
type Locker interface {
	Lock(name string) (io.Closer, error)
}

// cacheDropper is the optional ability of a File to be read from the disk again. After a failed fsync the pages in memory may say
// what the disk does not.
type cacheDropper interface{ dropCache() error }
