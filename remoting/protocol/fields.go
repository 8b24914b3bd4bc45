package protocol

// Field is one ext field of a header. On the wire every value is a string: numbers are decimal, booleans
// "true" and "false".
type Field struct{ Key, Value string }

// Fields are the ext fields of a header in the order in which they stand there. A key may occur more than
// once (Java's fast encoder together with its ACL hook does that); the last one counts.
type Fields []Field

// Get returns the value of key, and whether it is there.
func (f Fields) Get(key string) (string, bool) {
	for i := len(f) - 1; i >= 0; i-- {
		if f[i].Key == key {
			return f[i].Value, true
		}
	}
	return "", false
}

// Set gives key the value that Get returns from now on: it replaces the field that counts, or appends one.
func (f *Fields) Set(key, value string) {
	for i := len(*f) - 1; i >= 0; i-- {
		if (*f)[i].Key == key {
			(*f)[i].Value = value
			return
		}
	}
	*f = append(*f, Field{key, value})
}

// Header is a typed request or response header. Every header of headers_gen.go has this method on its
// pointer, and beside it Decode(Fields) error, which fails with a *FieldError that names the field.
type Header interface {
	// AppendFields appends the header's ext fields to f: the required ones always, the others where they
	// differ from their default.
	AppendFields(f Fields) Fields
}
