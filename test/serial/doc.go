// Package serial holds our driver of serial readers against Debian's libccidtwin: both drive the same simulated reader at
// a pseudo-terminal, must bring the same answers from the card, and must say the same to the reader.
package serial
