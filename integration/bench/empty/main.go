// Command empty does nothing: what it needs is what every Go program needs.
package main

func main() {}
