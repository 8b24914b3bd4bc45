package fastjson

import "errors"

// Unmarshal reads data into v.
func Unmarshal(data []byte, v any) error { return errors.New("fastjson: Unmarshal is not written yet") }

// Marshal writes v.
func Marshal(v any) ([]byte, error) { return nil, errors.New("fastjson: Marshal is not written yet") }

// MarshalLegacy writes v with integer map keys left unquoted.
func MarshalLegacy(v any) ([]byte, error) {
	return nil, errors.New("fastjson: MarshalLegacy is not written yet")
}
