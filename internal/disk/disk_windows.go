package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

const (
	retryFor   = time.Second
	retryPause = 500 * time.Microsecond // the first pause
	maxPause   = 16 * time.Millisecond
)

func syncRenamed(root *os.Root, name string) error {
	var f *os.File
	err := retry(func() (err error) {
		f, err = root.OpenFile(name, os.O_RDWR, 0)
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func syncFolder(*os.File) error { return nil }

func retry(op func() error) error {
	began := time.Now()
	for pause := retryPause; ; pause = min(2*pause, maxPause) {
		err := op()
		if !passes(err) || time.Since(began) > retryFor {
			return err
		}
		<-time.After(pause)
	}
}

// passes reports whether the reason of an error may be that another program has the file open.
func passes(err error) bool {
	return errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_SHARING_VIOLATION)
}

func makePrivate(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := makePrivate(parent); err != nil {
			return err
		}
	}
	attributes, err := privateAttributes()
	if err != nil {
		return err
	}
	name, err := windows.UTF16PtrFromString(dir)
	if err == nil {
		err = windows.CreateDirectory(name, attributes)
	}
	if errors.Is(err, windows.ERROR_ALREADY_EXISTS) { // another process was faster
		return os.MkdirAll(dir, dirPerm)
	}
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return nil
}

// privateAttributes gives full access to the current user, the system and the administrators, and
// no access to others.
func privateAttributes() (*windows.SecurityAttributes, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, fmt.Errorf("the user of the process: %w", err)
	}
	list := fmt.Sprintf("D:P(A;OICI;FA;;;%s)(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)", user.User.Sid)
	descriptor, err := windows.SecurityDescriptorFromString(list)
	if err != nil {
		return nil, fmt.Errorf("the access list of a folder: %w", err)
	}
	return &windows.SecurityAttributes{Length: uint32(unsafe.Sizeof(windows.SecurityAttributes{})), SecurityDescriptor: descriptor}, nil
}

const fileDeleteChild = 0x40 // FILE_DELETE_CHILD, which package windows lacks

// writing is the set of rights to make, change, remove or take over files.
const writing = windows.FILE_WRITE_DATA | windows.FILE_APPEND_DATA | fileDeleteChild | windows.DELETE | windows.WRITE_DAC |
	windows.WRITE_OWNER | windows.GENERIC_WRITE | windows.GENERIC_ALL

func othersMayWrite(root *os.Root) (bool, error) {
	dir, err := root.Open(".")
	if err != nil {
		return false, err
	}
	defer func() { _ = dir.Close() }()
	descriptor, err := windows.GetSecurityInfo(windows.Handle(dir.Fd()), windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return false, os.NewSyscallError("GetSecurityInfo", err)
	}
	return letsEverybodyWrite(descriptor)
}

func letsEverybodyWrite(descriptor *windows.SECURITY_DESCRIPTOR) (bool, error) {
	list, _, err := descriptor.DACL()
	if errors.Is(err, windows.ERROR_OBJECT_NOT_FOUND) || (err == nil && list == nil) {
		return true, nil // a folder without a list is open to everybody, as on FAT file systems
	}
	if err != nil {
		return false, fmt.Errorf("the access list of the folder: %w", err)
	}
	for i := range uint32(list.AceCount) {
		var entry *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(list, i, &entry); err != nil {
			return false, os.NewSyscallError("GetAce", err)
		}
		if entry.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE || entry.Mask&writing == 0 {
			continue
		}
		if ofEverybody((*windows.SID)(unsafe.Pointer(&entry.SidStart))) { //nolint:gosec // the SID stands there
			return true, nil
		}
	}
	return false, nil
}

// ofEverybody reports whether users belong to a group automatically.
func ofEverybody(group *windows.SID) bool {
	kinds := []windows.WELL_KNOWN_SID_TYPE{
		windows.WinWorldSid, windows.WinAnonymousSid, windows.WinAuthenticatedUserSid, windows.WinInteractiveSid, windows.WinNetworkSid,
		windows.WinBuiltinUsersSid, windows.WinBuiltinGuestsSid,
	}
	return slices.ContainsFunc(kinds, group.IsWellKnown) || ofDomain(group)
}

// ofDomain reports whether a group is Domain Users or Domain Guests: S-1-5-21-x-y-z-513 and 514.
func ofDomain(group *windows.SID) bool {
	const (
		parts  = 5
		domain = 21
		users  = 513
		guests = 514
	)
	if group.IdentifierAuthority() != windows.SECURITY_NT_AUTHORITY || group.SubAuthorityCount() != parts || group.SubAuthority(0) != domain {
		return false
	}
	last := group.SubAuthority(parts - 1)
	return last == users || last == guests
}
