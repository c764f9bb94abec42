// Package taskfile reads tasks from JSON Lines, one envelope a line. A stream may have any
// length: one line is in memory at a time, and about thirty bytes for each task read.
//
//	source := taskfile.New(os.Stdin)
//	for item, err := range source.Items() {
//		if err != nil {
//			return err // reading failed
//		}
//		if item.Err != nil {
//			log.Printf("line %d: %v", item.Line, item.Err) // the iteration continues
//		}
//	}
package taskfile
