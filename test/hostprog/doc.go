// Package hostprog runs the PAM module in a C program (program/) that behaves as badly as real PAM applications do:
// it forks in every order, steals SIGCHLD, closes descriptors, runs out of memory, jumps out of its conversation. The
// tests build the module with a stand-in for the login wing (build tag hosttest), whose misdeeds the module's
// arguments choose, and with a shorter deadline.
package hostprog
