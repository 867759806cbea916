"""Tests of IKEv2."""
