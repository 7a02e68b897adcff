// Command daemon serves the USB readers of the machine on a socket, as a program of another module would.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/ccid/usb"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/resmgr"
	"pam_pkcs11/pcsc/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	// The readers, and a manager over them.
	options, err := plan.ParseOptions("")
	if err != nil {
		log.Fatal(err)
	}
	manager := resmgr.New(resmgr.Options{})
	defer manager.Close()
	driver := resmgr.Plug(ctx, manager, usb.NewDriver(options, nil))
	manager.Ready()

	// The manager is a service like the client of a daemon.
	readers, err := names(manager)
	if err != nil {
		log.Print(err)
	}
	log.Print(readers)

	// Others may use it, too.
	fd, err := listen(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	s := &server.Server{Manager: manager, Authorizer: &server.Policy{}}
	if err := s.Serve(ctx, fd); err != nil {
		log.Print(err)
	}
	<-driver
}

func names(service pcsc.Service) ([]string, error) {
	c, err := pcsc.NewContext(service)
	if err != nil {
		return nil, err
	}
	defer c.Release()
	return c.ListReaders()
}

func listen(path string) (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return -1, err
	}
	return fd, unix.Listen(fd, 16)
}
