package store

import "io"

// File is an open file of an FS. ReadAt may be called by many goroutines, also while one other writes elsewhere in the
// file; Sync returns once the bytes written before and the size are durable. Truncate grows with zeros. It is an alias,
// so that file systems declared elsewhere with the same method set fit.
type File = interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Size() (int64, error)
	io.Closer
}

// FS is all that the store asks of a file system. Names are paths below the directory given to Open. A created, renamed
// or removed name is durable only after SyncDir. Errors for a missing file match fs.ErrNotExist.
type FS = interface {
	Create(name string) (File, error) // makes an empty file, or empties an existing one, for reading and writing
	Open(name string) (File, error)   // opens an existing file for reading and writing
	Rename(oldName, newName string) error
	Remove(name string) error
	MkdirAll(dir string) error
	SyncDir(dir string) error
	List(dir string) ([]string, error) // base names in lexical order
}
