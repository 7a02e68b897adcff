package pcsc

import (
	"context"
	"time"
)

// Context is an established context of some Service.
type Context struct {
	service Service
	sc      SCardContext
}

// NewContext establishes a context with s.
func NewContext(s Service) (*Context, error) {
	sc, err := s.EstablishContext(ScopeSystem)
	if err != nil {
		return nil, err
	}
	return &Context{service: s, sc: sc}, nil
}

// IsValid reports whether the context can still be used.
func (c *Context) IsValid() (bool, error) {
	switch err := c.service.IsValidContext(c.sc); err {
	case nil:
		return true, nil
	case ErrInvalidHandle:
		return false, nil
	default:
		return false, err
	}
}

// Release ends the context; a GetStatusChange that waits on it ends with ErrCancelled.
func (c *Context) Release() error { return c.service.ReleaseContext(c.sc) }

// Cancel ends the GetStatusChange that is waiting on this context.
func (c *Context) Cancel() error { return c.service.Cancel(c.sc) }

// ListReaders names the readers.
func (c *Context) ListReaders() ([]string, error) { return c.service.ListReaders(c.sc) }

// ListReaderGroups names the reader groups: there is one.
func (c *Context) ListReaderGroups() ([]string, error) { return c.service.ListReaderGroups(c.sc) }

// GetStatusChange waits for a change, see Service.
func (c *Context) GetStatusChange(states []ReaderState, timeout time.Duration) error {
	return c.GetStatusChangeContext(context.Background(), states, timeout)
}

// GetStatusChangeContext is GetStatusChange until ctx ends.
func (c *Context) GetStatusChangeContext(
	ctx context.Context, states []ReaderState, timeout time.Duration,
) error {
	return c.service.GetStatusChange(ctx, c.sc, states, timeout)
}

// Connect connects to the card in a reader. It waits while another connection holds a transaction.
func (c *Context) Connect(reader string, mode ShareMode, protocols Protocol) (*Card, error) {
	return c.ConnectContext(context.Background(), reader, mode, protocols)
}

// ConnectContext is Connect until ctx ends. A Client then loses the whole Context: there is no way
// to take a call back.
func (c *Context) ConnectContext(
	ctx context.Context, reader string, mode ShareMode, protocols Protocol,
) (*Card, error) {
	h, active, err := c.service.Connect(ctx, c.sc, reader, mode, protocols)
	if err != nil {
		return nil, err
	}
	return &Card{service: c.service, handle: h, active: active}, nil
}
