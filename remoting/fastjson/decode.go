package fastjson

import (
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// What reading may cost. The memory budget is counted in the sizes of the values built, so that a short text of many
// empty objects cannot ask for many times its own size.
const (
	memoryBase   = 1 << 20 // bytes any text may use
	memoryFactor = 8       // and bytes for each byte of text
)

// ValueError says which value of a text does not fit where it is to go.
type ValueError struct {
	Path string // members and keys from the outside in, such as ".topicConfigTable.T.perm"
	Msg  string
}

func (e *ValueError) Error() string { return "fastjson: " + e.Path + " " + e.Msg }

// Unmarshal reads data into v, a pointer to a struct, map or slice. It is as lenient as fastjson: white space
// anywhere, members in any order, unknown ones dropped; null leaves a value as it is; integer keys quoted or not;
// object keys raw or as a string with the object's text; numbers and booleans also as strings; enums in any case or as
// ordinals, unknown ones empty; {"$ref":path} stands for the value at that path, for nothing if there is none or it
// would hold itself. Struct members that are absent keep their default, see Defaulter.
//
// A text that nests more than DepthMax deep, or needs far more memory than its own size, is refused. The error is a
// *SyntaxError or a *ValueError; v then holds a part of the text.
func Unmarshal(data []byte, v any) error {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return fmt.Errorf("fastjson: Unmarshal into %T, want a pointer", v)
	}
	d := decoder{
		scan:    NewScanner(string(data)),
		plans:   plans{},
		memory:  memoryBase + memoryFactor*len(data),
		refWork: refWorkMax,
	}
	if err := d.value(target.Elem(), nil, 0); err != nil {
		return err
	}
	return d.scan.End()
}

type decoder struct {
	scan    Scanner
	plans   plans
	memory  int // bytes that may still be built
	refWork int // bytes that may still be walked for references
}

// charge takes size bytes off the budget.
func (d *decoder) charge(size uintptr) error {
	if d.memory -= int(size); d.memory < 0 {
		return d.scan.Fail("text needs too much memory")
	}
	return nil
}

// value reads the next value into v. m is the member it belongs to, nil for none.
func (d *decoder) value(v reflect.Value, m *member, depth int) error {
	if v.Type() == rawType {
		return d.raw(v, depth)
	}
	if v.Kind() == reflect.Pointer {
		return d.pointer(v, m, depth)
	}
	switch d.scan.Peek() {
	case '{':
		return d.braces(v, depth)
	case '[':
		return d.brackets(v, depth)
	case '"':
		text, err := d.text()
		if err != nil {
			return err
		}
		return d.scalar(v, m, text, true)
	}
	text, err := d.scan.Literal()
	if err != nil || text == "null" {
		return err
	}
	return d.scalar(v, m, strings.Clone(text), false)
}

// text takes a string that is to be kept. It is copied, so that a short name does not keep a whole body alive.
func (d *decoder) text() (string, error) {
	text, err := d.scan.String()
	if err != nil {
		return "", err
	}
	return strings.Clone(text), d.charge(uintptr(len(text)))
}

func (d *decoder) raw(v reflect.Value, depth int) error {
	d.scan.Peek()
	from := d.scan.pos
	if err := d.scan.Skip(depth); err != nil {
		return err
	}
	text := d.scan.text[from:d.scan.pos]
	if text == "null" {
		return nil
	}
	v.SetBytes([]byte(text))
	return d.charge(uintptr(len(text)))
}

func (d *decoder) pointer(v reflect.Value, m *member, depth int) error {
	if d.null() {
		return nil
	}
	to := v.Type().Elem()
	if err := d.charge(to.Size()); err != nil {
		return err
	}
	fresh := reflect.New(to)
	if err := d.value(fresh.Elem(), m, depth); err != nil {
		return err
	}
	v.Set(fresh)
	return nil
}

// null takes null if it comes next.
func (d *decoder) null() bool {
	if d.scan.Peek() != 'n' {
		return false
	}
	before := d.scan
	if text, err := d.scan.Literal(); err == nil && text == "null" {
		return true
	}
	d.scan = before
	return false
}

// scalar stores a string (without its quotes), number or boolean.
func (d *decoder) scalar(v reflect.Value, m *member, text string, quoted bool) error {
	ok := false
	switch v.Kind() {
	case reflect.String:
		if m != nil && m.enum != nil {
			text = enumName(m.enum, text)
		}
		v.SetString(text)
		ok = true
	case reflect.Bool:
		var b bool
		b, ok = parseBool(text)
		v.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		var n int64
		if n, ok = parseInt(text); ok && !v.OverflowInt(n) {
			v.SetInt(n)
		} else {
			ok = false
		}
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		ok = err == nil
		v.SetFloat(f)
	case reflect.Slice:
		if v.Type() == bytesType && quoted {
			b, err := base64.StdEncoding.DecodeString(text)
			ok = err == nil
			v.SetBytes(b)
		}
	}
	if !ok {
		return &ValueError{Msg: fmt.Sprintf("is %.40q, want %s", text, kindName(v.Type()))}
	}
	return nil
}

// enumName returns the exact name for a name in any case or an ordinal, "" for one that is not known.
func enumName(names []string, text string) string {
	for _, name := range names {
		if strings.EqualFold(name, text) {
			return name
		}
	}
	if n, err := strconv.ParseUint(text, 10, 8); err == nil && int(n) < len(names) {
		return names[n]
	}
	return ""
}

func parseBool(text string) (v, ok bool) {
	switch {
	case text == "1" || strings.EqualFold(text, "true"):
		return true, true
	case text == "0" || strings.EqualFold(text, "false"):
		return false, true
	}
	return false, false
}

// parseInt also takes 5.0 and 5e3, which some JSON writers make of whole numbers.
func parseInt(text string) (int64, bool) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	if !strings.ContainsAny(text, ".eE") {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
		return 0, false
	}
	return int64(f), true
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice:
		if t == bytesType {
			return "base64 text"
		}
		return "an array"
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	default:
		return "a number of type " + t.Kind().String()
	}
}

// inside adds a step to the path of a ValueError on its way out.
func inside(err error, step string) error {
	if v, ok := err.(*ValueError); ok {
		v.Path = step + v.Path
	}
	return err
}

func (d *decoder) brackets(v reflect.Value, depth int) error {
	if v.Kind() != reflect.Slice || v.Type() == bytesType {
		return &ValueError{Msg: "is an array, want " + kindName(v.Type())}
	}
	if depth >= DepthMax {
		return d.tooDeep()
	}
	d.scan.Take('[')
	list := reflect.MakeSlice(v.Type(), 0, 0)
	elem := v.Type().Elem()
	for more := !d.scan.Take(']'); more; {
		if err := d.charge(elem.Size()); err != nil {
			return err
		}
		item := reflect.New(elem).Elem()
		if err := d.value(item, nil, depth+1); err != nil {
			return inside(err, "["+strconv.Itoa(list.Len())+"]")
		}
		list = reflect.Append(list, item)
		var err error
		if more, err = d.scan.More(']'); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

func (d *decoder) tooDeep() error {
	return d.scan.Fail("more than %d values inside each other", DepthMax)
}

// braces reads an object, or the value a reference stands for.
func (d *decoder) braces(v reflect.Value, depth int) error {
	if depth >= DepthMax {
		return d.tooDeep()
	}
	before := d.scan
	path, isRef := d.reference()
	if isRef {
		return d.resolve(path, before.pos, v, depth)
	}
	d.scan = before
	switch v.Kind() {
	case reflect.Struct:
		return d.object(v, depth)
	case reflect.Map:
		return d.table(v, depth)
	default:
		return &ValueError{Msg: "is an object, want " + kindName(v.Type())}
	}
}

func (d *decoder) object(v reflect.Value, depth int) error {
	pl, err := d.plans.of(v.Type())
	if err != nil {
		return err
	}
	if v.Addr().Type().Implements(defaulterType) {
		v.Addr().Interface().(Defaulter).SetDefaults()
	}
	d.scan.Take('{')
	for more := !d.scan.Take('}'); more; {
		var m *member
		name := ""
		if d.scan.Peek() == '"' {
			if name, err = d.scan.String(); err != nil {
				return err
			}
			if i, ok := pl.byName[name]; ok {
				m = &pl.members[i]
			}
		} else if err = d.scan.Skip(depth + 1); err != nil { // an integer or object as key: no member of ours
			return err
		}
		if err = d.scan.Expect(':'); err != nil {
			return err
		}
		if m == nil {
			err = d.scan.Skip(depth + 1)
		} else {
			err = inside(d.value(v.FieldByIndex(m.index), m, depth+1), "."+name)
		}
		if err != nil {
			return err
		}
		if more, err = d.scan.More('}'); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) table(v reflect.Value, depth int) error {
	t := v.Type()
	table := reflect.MakeMap(t)
	d.scan.Take('{')
	for more := !d.scan.Take('}'); more; {
		if err := d.charge(t.Key().Size() + t.Elem().Size()); err != nil {
			return err
		}
		key := reflect.New(t.Key()).Elem()
		from := d.scan.pos
		if err := d.key(key, depth); err != nil {
			return err
		}
		step := "." + strings.Trim(d.scan.text[from:min(d.scan.pos, from+fieldShown)], `" `)
		if err := d.scan.Expect(':'); err != nil {
			return err
		}
		item := reflect.New(t.Elem()).Elem()
		if err := d.value(item, nil, depth+1); err != nil {
			return inside(err, step)
		}
		table.SetMapIndex(key, item)
		var err error
		if more, err = d.scan.More('}'); err != nil {
			return err
		}
	}
	v.Set(table)
	return nil
}

// fieldShown is how much of a map key the path of an error repeats.
const fieldShown = 80

// key reads a map key: text, an integer, an object, or text that holds an integer or an object.
func (d *decoder) key(k reflect.Value, depth int) error {
	if d.null() {
		return &ValueError{Msg: "has null as key"}
	}
	if k.Kind() != reflect.Struct {
		if d.scan.Peek() == '{' || d.scan.Peek() == '[' {
			return &ValueError{Msg: "has an object as key, want " + kindName(k.Type())}
		}
		return d.value(k, nil, depth+1)
	}
	if d.scan.Peek() != '"' {
		return d.value(k, nil, depth+1)
	}
	text, err := d.text()
	if err != nil {
		return err
	}
	outer := d.scan
	d.scan = NewScanner(text)
	err = d.value(k, nil, depth+1)
	if err == nil {
		err = d.scan.End()
	}
	d.scan = outer
	return err
}
