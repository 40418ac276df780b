// Compresses standard input to standard output with Go's gzip writer, as Docker's builder and the
// tools of registries do.
package main

import (
	"compress/gzip"
	"io"
	"log"
	"os"
)

func main() {
	writer := gzip.NewWriter(os.Stdout)
	if _, err := io.Copy(writer, os.Stdin); err != nil {
		log.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		log.Fatal(err)
	}
}
