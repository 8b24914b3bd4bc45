package store

func (s *Store) Config(key string) (string, bool) { return "", false }
func (s *Store) Configs() map[string]string       { return nil }
