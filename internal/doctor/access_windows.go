package doctor

// access asks nothing: only making a file would tell.
func access(string) error { return nil }
