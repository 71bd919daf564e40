// Writes its input as a gzip member by klauspost's packages: klauspost gzip|pgzip LEVEL < in > out
//
// benchmarks.deflate and benchmarks.tokens build it once for each release.
package main

import (
	"io"
	"log"
	"os"
	"strconv"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"
)

func main() {
	level, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	var out io.WriteCloser
	if os.Args[1] == "pgzip" {
		out, err = pgzip.NewWriterLevel(os.Stdout, level)
	} else {
		out, err = gzip.NewWriterLevel(os.Stdout, level)
	}
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(out, os.Stdin); err != nil {
		log.Fatal(err)
	}
	if err := out.Close(); err != nil {
		log.Fatal(err)
	}
}
