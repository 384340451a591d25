package apply

// Before writes the addresses of operations that are about to be carried out.
func (j *Journal) Before(ops []Op) error { return j.before(ops) }
