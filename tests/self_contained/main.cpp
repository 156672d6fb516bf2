// tests/self_contained/main.cpp - the program that every header is linked into.
int main() {}
