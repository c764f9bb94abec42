// Package readme keeps README.md and README.zh-CN.md true: its tests generate the tables
// in them from the code, and compare what they say with what is there.
//
// A table stands between <!-- begin: name --> and <!-- end: name -->. After a change
// that shows in one, write them anew:
//
//	make tables
package readme
