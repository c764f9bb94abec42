package campaign

// SetChunk sets how many rows are enqueued at a time.
func (s *Sender) SetChunk(rows int) { s.chunk = rows }
