// Package readme tests README.md, README.zh-CN.md and the pages in docs: it generates
// their tables from the code and compares what they say with the code.
//
// A generated table stands between <!-- begin: name --> and <!-- end: name -->. After a
// change to its source, regenerate it:
//
//	make tables
package readme
