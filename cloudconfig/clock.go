package cloudconfig

import (
	"fmt"
	"time"
)

// ClockCommand is a command line for the guest's shell that sets its clock to what
// [Clock] wrote, which it reads from standard input.
const ClockCommand = `sudo -n sh -c 'read -r now && date --utc --set="@$now"'`

// Clock is a moment as [ClockCommand] reads it: seconds since 1970, in UTC.
func Clock(t time.Time) string { return fmt.Sprintf("%d.%09d\n", t.Unix(), t.Nanosecond()) }
