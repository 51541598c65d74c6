package providertest

// BootSector is the disk of a guest of 512 bytes. It says hello on the serial line, waits
// for the power button, says bye and powers off through ACPI.
func BootSector() []byte {
	code := []byte{
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0xfc,             // cld
		0xfb,             // sti
		0xbe, 0x40, 0x7c, // mov si, hello
		0xe8, 0x21, 0x00, // call print
		0xba, 0x02, 0x06, // mov dx, 0x602: PM1 enable
		0xb8, 0x00, 0x01, // mov ax, 0x100: the power button
		0xef,             // out dx, ax
		0xba, 0x00, 0x06, // mov dx, 0x600: PM1 status
		0xf4,             // wait: hlt, until the next timer tick
		0xed,             // in ax, dx
		0xf6, 0xc4, 0x01, // test ah, 1
		0x74, 0xf9, // jz wait
		0xbe, 0x60, 0x7c, // mov si, bye
		0xe8, 0x0a, 0x00, // call print
		0xba, 0x04, 0x06, // mov dx, 0x604: PM1 control
		0xb8, 0x00, 0x20, // mov ax, 0x2000: sleep of type 0, off
		0xef,       // out dx, ax
		0xf4,       // halt: hlt
		0xeb, 0xfd, // jmp halt
		0xba, 0xf8, 0x03, // print: mov dx, 0x3f8: COM1
		0xac,       // next: lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x03, // jz done
		0xee,       // out dx, al
		0xeb, 0xf8, // jmp next
		0xc3, // done: ret
	}
	sector := make([]byte, 1<<20) // SeaBIOS does not boot from less than a track
	copy(sector, code)
	copy(sector[0x40:], "hello\r\n\x00")
	copy(sector[0x60:], "bye\r\n\x00")
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}
