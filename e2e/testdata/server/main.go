// Server is what test containers run: it says its first argument over HTTP on
// port 80, and sends UDP datagrams to port 53 back.
package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

func main() {
	go func() {
		c, err := net.ListenPacket("udp4", ":53")
		if err != nil {
			log.Fatal(err)
		}
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err == nil {
				_, err = c.WriteTo(buf[:n], from)
			}
			if err != nil {
				log.Print(err)
			}
		}
	}()
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, os.Args[1]) // the client has gone
	})
	log.Fatal(http.ListenAndServe(":80", nil))
}
