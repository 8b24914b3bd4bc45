package fastjson

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Marshal writes v as fastjson does: struct members in alphabetical order, nothing between tokens, nil pointers left
// out, doubles as Java prints them, []byte in base64. Map entries come in the order of their keys (fastjson: hash
// order); struct keys are written as raw objects, integer keys quoted. See member for the struct tags. An error means
// that v holds a type the dialect has no form for, or nests more than DepthMax deep.
func Marshal(v any) ([]byte, error) { return marshal(v, false) }

// MarshalLegacy is Marshal with integer map keys left unquoted, which is what Apache sends to clients before 4.9.4,
// and what it always sends for some bodies.
func MarshalLegacy(v any) ([]byte, error) { return marshal(v, true) }

func marshal(v any, legacy bool) ([]byte, error) {
	e := encoder{plans: plans{}, legacy: legacy}
	if err := e.value(reflect.ValueOf(v), 0); err != nil {
		return nil, err
	}
	return e.out, nil
}

type encoder struct {
	out    []byte
	plans  plans
	legacy bool
}

func (e *encoder) value(v reflect.Value, depth int) error {
	if depth > DepthMax {
		return fmt.Errorf("fastjson: more than %d values inside each other", DepthMax)
	}
	if !v.IsValid() {
		e.out = append(e.out, "null"...)
		return nil
	}
	switch v.Kind() {
	case reflect.Bool:
		e.out = strconv.AppendBool(e.out, v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		e.out = strconv.AppendInt(e.out, v.Int(), 10)
	case reflect.Float64:
		e.out = appendDouble(e.out, v.Float())
	case reflect.String:
		e.out = AppendString(e.out, v.String())
	case reflect.Pointer, reflect.Interface:
		return e.value(v.Elem(), depth)
	case reflect.Struct:
		return e.object(v, depth)
	case reflect.Map:
		return e.table(v, depth)
	case reflect.Slice:
		return e.list(v, depth)
	default:
		return fmt.Errorf("fastjson: cannot write a %s", v.Type())
	}
	return nil
}

func (e *encoder) object(v reflect.Value, depth int) error {
	pl, err := e.plans.of(v.Type())
	if err != nil {
		return err
	}
	e.out = append(e.out, '{')
	empty := len(e.out)
	for i := range pl.members {
		m := &pl.members[i]
		f := v.FieldByIndex(m.index)
		if absent(m, f) {
			continue
		}
		if len(e.out) > empty {
			e.out = append(e.out, ',')
		}
		e.out = append(AppendString(e.out, m.name), ':')
		if err := e.value(f, depth+1); err != nil {
			return err
		}
	}
	e.out = append(e.out, '}')
	return nil
}

// absent reports whether a member is to be left out.
func absent(m *member, v reflect.Value) bool {
	switch {
	case v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface || v.Type() == rawType:
		return v.IsNil()
	case m.enum != nil:
		return !slices.Contains(m.enum, v.String())
	case !m.omitEmpty:
		return false
	case v.Kind() == reflect.Map || v.Kind() == reflect.Slice:
		return v.Len() == 0
	default:
		return v.IsZero()
	}
}

func (e *encoder) list(v reflect.Value, depth int) error {
	switch v.Type() {
	case rawType:
		if v.IsNil() {
			e.out = append(e.out, "null"...)
		}
		e.out = append(e.out, v.Bytes()...)
		return nil
	case bytesType:
		e.out = append(e.out, '"')
		e.out = base64.StdEncoding.AppendEncode(e.out, v.Bytes())
		e.out = append(e.out, '"')
		return nil
	}
	e.out = append(e.out, '[')
	for i := range v.Len() {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		if err := e.value(v.Index(i), depth+1); err != nil {
			return err
		}
	}
	e.out = append(e.out, ']')
	return nil
}

type entry struct{ key, value reflect.Value }

func (e *encoder) table(v reflect.Value, depth int) error {
	entries := make([]entry, 0, v.Len())
	for it := v.MapRange(); it.Next(); {
		entries = append(entries, entry{it.Key(), it.Value()})
	}
	slices.SortFunc(entries, func(a, b entry) int { return compareKeys(a.key, b.key) })
	e.out = append(e.out, '{')
	for i, en := range entries {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		if err := e.key(en.key, depth); err != nil {
			return err
		}
		e.out = append(e.out, ':')
		if err := e.value(en.value, depth+1); err != nil {
			return err
		}
	}
	e.out = append(e.out, '}')
	return nil
}

func (e *encoder) key(k reflect.Value, depth int) error {
	switch k.Kind() {
	case reflect.String, reflect.Struct:
		return e.value(k, depth+1)
	case reflect.Int32, reflect.Int64:
		if e.legacy {
			return e.value(k, depth+1)
		}
		e.out = append(e.out, '"')
		e.out = strconv.AppendInt(e.out, k.Int(), 10)
		e.out = append(e.out, '"')
		return nil
	default:
		return fmt.Errorf("fastjson: cannot write a map key of type %s", k.Type())
	}
}

// compareKeys orders map keys: numbers by value, text by bytes, structs field by field as declared.
func compareKeys(a, b reflect.Value) int {
	switch a.Kind() {
	case reflect.String:
		return cmp.Compare(a.String(), b.String())
	case reflect.Int32, reflect.Int64:
		return cmp.Compare(a.Int(), b.Int())
	case reflect.Struct:
		for i := range a.NumField() {
			if c := compareKeys(a.Field(i), b.Field(i)); c != 0 {
				return c
			}
		}
	}
	return 0
}

// appendDouble appends f as Java's Double.toString gives it, null for what JSON cannot say. At least one digit stands
// behind the point; below 0.001 and from 10,000,000 on there is an exponent.
func appendDouble(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	if abs := math.Abs(f); abs == 0 || abs >= 1e-3 && abs < 1e7 {
		start := len(dst)
		dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
		if !strings.Contains(string(dst[start:]), ".") {
			dst = append(dst, ".0"...)
		}
		return dst
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	exponent = strings.TrimPrefix(exponent, "+")
	sign := strings.HasPrefix(exponent, "-")
	exponent = strings.TrimLeft(exponent, "-0")
	dst = append(append(dst, mantissa...), 'E')
	if sign {
		dst = append(dst, '-')
	}
	return append(dst, exponent...)
}
