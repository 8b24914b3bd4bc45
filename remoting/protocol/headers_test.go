package protocol

// decodableHeader is what every generated header is.
type decodableHeader interface {
	Header
	Decode(Fields) error
}
