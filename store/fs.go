package store

import "io"

// File is an open file of an FS. ReadAt may be called by many goroutines, also while one other writes elsewhere in the
// file; Sync returns once the bytes and the size are durable. It is an alias, so that file systems of other packages
// with the same method set fit.
type File = interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Truncate(size int64) error
	Size() (int64, error)
	io.Closer
}

// FS is all that the store asks of a file system. Names are paths below the directory given to Open. Errors for a
// missing file match fs.ErrNotExist.
type FS interface {
	OpenFile(name string, flag int) (File, error) // flag: os.O_RDONLY, os.O_RDWR, os.O_CREATE, os.O_TRUNC
	Rename(oldName, newName string) error
	Remove(name string) error
	ReadDir(dir string) ([]string, error) // base names, sorted
	MkdirAll(dir string) error
	SyncDir(dir string) error // makes creations, renames and removals in dir durable
}
