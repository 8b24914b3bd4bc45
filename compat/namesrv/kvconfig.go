package namesrv

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// OrderTopicNamespace holds the order configuration of topics: topic -> "brokerA:4;brokerB:4".
const OrderTopicNamespace = "ORDER_TOPIC_CONFIG"

// Bounds of the KV configuration. The whole of it is rewritten at each change, so it is kept small.
const (
	kvNamespacesMax = 1000
	kvEntriesMax    = 20_000
	kvNameBytesMax  = 1024
	kvValueBytesMax = 64 << 10
	kvBytesMax      = 8 << 20
	kvFileBytesMax  = 6*kvBytesMax + 1<<20 // JSON may take six bytes for one
)

// KVConfig is a small map of namespaces to keys to values, kept in one file of the form that Apache's name server uses.
// Reads never wait for the disk. A change is on disk before the method that makes it returns; if it cannot be written, it
// is not made.
type KVConfig struct {
	file    stateFile
	current atomic.Pointer[kvTable] // never changed, only replaced
	mu      sync.Mutex              // held through a change
}

type kvTable map[string]map[string]string

// kvDocument is the file.
type kvDocument struct {
	ConfigTable kvTable `json:"configTable"`
}

// OpenKVConfig reads the file at path. No file is an empty configuration; one that cannot be read is an error, because
// going on would end in overwriting it. The file's directory is made if need be.
func OpenKVConfig(path string) (*KVConfig, error) {
	file, err := openStateFile(path)
	if err != nil {
		return nil, fmt.Errorf("open KV configuration: %w", err)
	}
	k := &KVConfig{file: file}
	table, err := k.load()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read KV configuration %s: %w", path, err), file.close())
	}
	k.current.Store(&table)
	return k, nil
}

func (k *KVConfig) load() (kvTable, error) {
	data, err := k.file.read(kvFileBytesMax)
	if errors.Is(err, fs.ErrNotExist) {
		return kvTable{}, nil
	}
	if err != nil {
		return nil, err
	}
	var doc kvDocument
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	table := kvTable{}
	for namespace, entries := range doc.ConfigTable {
		table[namespace] = map[string]string{}
		maps.Copy(table[namespace], entries)
	}
	return table, nil
}

// Close releases the file's directory. Get and Namespace may still be called.
func (k *KVConfig) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.file.close()
}

// Get returns the value of a key, and whether there is one.
func (k *KVConfig) Get(namespace, key string) (string, bool) {
	v, ok := (*k.current.Load())[namespace][key]
	return v, ok
}

// Namespace returns the entries of a namespace, and whether it was ever written to. The map must not be changed.
func (k *KVConfig) Namespace(namespace string) (map[string]string, bool) {
	entries, ok := (*k.current.Load())[namespace]
	return entries, ok
}

// Put sets the value of a key.
func (k *KVConfig) Put(namespace, key, value string) error {
	if err := checkKVName("namespace", namespace); err != nil {
		return err
	}
	if err := checkKVName("key", key); err != nil {
		return err
	}
	if len(value) > kvValueBytesMax || !utf8.ValidString(value) {
		return fmt.Errorf("%w: the value of %.100q must be UTF-8 text of at most %d bytes", ErrInvalid, key, kvValueBytesMax)
	}
	return k.change(namespace, func(entries map[string]string) { entries[key] = value })
}

// Delete removes a key. It is no error if there is none.
func (k *KVConfig) Delete(namespace, key string) error {
	if _, ok := k.Get(namespace, key); !ok {
		return nil
	}
	return k.change(namespace, func(entries map[string]string) { delete(entries, key) })
}

// Replace makes entries the whole content of a namespace.
func (k *KVConfig) Replace(namespace string, entries map[string]string) error {
	return k.change(namespace, func(current map[string]string) {
		clear(current)
		maps.Copy(current, entries)
	})
}

// change applies edit to a copy of the namespace and puts the copy in place once it is on disk.
func (k *KVConfig) change(namespace string, edit func(entries map[string]string)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	table := maps.Clone(*k.current.Load())
	entries := maps.Clone(table[namespace])
	if entries == nil {
		entries = map[string]string{}
	}
	edit(entries)
	table[namespace] = entries
	if err := table.check(); err != nil {
		return err
	}
	text, err := table.encode()
	if err != nil {
		return fmt.Errorf("encode KV configuration: %w", err)
	}
	if err := k.file.write(text); err != nil {
		return fmt.Errorf("write KV configuration: %w", err)
	}
	k.current.Store(&table)
	return nil
}

func (t kvTable) check() error {
	count, size := 0, 0
	for namespace, entries := range t {
		count += len(entries)
		size += len(namespace)
		for key, value := range entries {
			size += len(key) + len(value)
		}
	}
	if len(t) > kvNamespacesMax || count > kvEntriesMax || size > kvBytesMax {
		return fmt.Errorf("%w: KV configuration of %d namespaces, %d entries, %d bytes", ErrLimit, kvNamespacesMax, kvEntriesMax, kvBytesMax)
	}
	return nil
}

func (t kvTable) encode() ([]byte, error) {
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(kvDocument{t}); err != nil {
		return nil, err
	}
	return []byte(text.String()), nil
}

func checkKVName(what, s string) error {
	if s == "" || len(s) > kvNameBytesMax || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%w: %s %.100q", ErrInvalid, what, s)
	}
	return nil
}
