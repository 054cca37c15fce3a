#!/bin/sh
touch harm
