// Package release is the one place that names the version of the sources. Every program prints it;
// a test compares it with CHANGELOG.md and with the packages of Debian and rpm.
package release

// Version is the version by semantic versioning (https://semver.org). Between two releases it is
// the next one's with "-dev" behind it, so that a tag vVERSION exists only of a version without.
const Version = "1.0.0-dev"

// Compatible is the version of pcsc-lite whose protocol and options the PC/SC daemon has: scripts
// that compare versions of pcscd read it.
const Compatible = "2.5.1"
