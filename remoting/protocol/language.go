package protocol

import "strings"

// Language is the sender's implementation language, as an ordinal of Apache's LanguageCode.
type Language uint8

// The languages the protocol knows.
const (
	LanguageJava Language = iota
	LanguageCPP
	LanguageDotNet
	LanguagePython
	LanguageDelphi
	LanguageErlang
	LanguageRuby
	LanguageOther
	LanguageHTTP
	LanguageGo
	LanguagePHP
	LanguageOMS
	LanguageRust
	LanguageNodeJS
	languageCount
)

// String returns the name used in JSON headers, "OTHER" for an ordinal the protocol does not know.
func (l Language) String() string {
	switch l {
	case LanguageJava:
		return "JAVA"
	case LanguageCPP:
		return "CPP"
	case LanguageDotNet:
		return "DOTNET"
	case LanguagePython:
		return "PYTHON"
	case LanguageDelphi:
		return "DELPHI"
	case LanguageErlang:
		return "ERLANG"
	case LanguageRuby:
		return "RUBY"
	case LanguageHTTP:
		return "HTTP"
	case LanguageGo:
		return "GO"
	case LanguagePHP:
		return "PHP"
	case LanguageOMS:
		return "OMS"
	case LanguageRust:
		return "RUST"
	case LanguageNodeJS:
		return "NODE_JS"
	default:
		return "OTHER"
	}
}

// languageByName maps a name in any case; one that is not known is LanguageOther.
func languageByName(name string) Language {
	for l := LanguageJava; l < languageCount; l++ {
		if strings.EqualFold(name, l.String()) {
			return l
		}
	}
	return LanguageOther
}

// languageByOrdinal maps an ordinal; one that is not known is LanguageOther.
func languageByOrdinal(n int64) Language {
	if n < 0 || n >= int64(languageCount) {
		return LanguageOther
	}
	return Language(n)
}
