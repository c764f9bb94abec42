// Package taskfile reads tasks from JSON Lines, one envelope a line, as a stream of any
// length: it holds one line at a time, and some thirty bytes for each task it has seen.
//
//	source := taskfile.New(os.Stdin)
//	for item, err := range source.Items() {
//		if err != nil {
//			return err // the stream broke off
//		}
//		if item.Err != nil {
//			log.Printf("line %d: %v", item.Line, item.Err) // and the others go on
//		}
//	}
package taskfile
